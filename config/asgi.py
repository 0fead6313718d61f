"""The ASGI entry point."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django.setup(set_prefix=False)

from config.requests import Utf8ASGIHandler  # noqa: E402 - settings first

application = Utf8ASGIHandler()
