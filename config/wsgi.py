"""The WSGI entry point: `gunicorn config.wsgi`."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django.setup(set_prefix=False)

from config.requests import Utf8WSGIHandler  # noqa: E402 - settings first

application = Utf8WSGIHandler()
