from django.contrib.staticfiles.management.commands import runserver

from ..unapplied import ChecksPrimaries


class Command(ChecksPrimaries, runserver.Command):
    """Django's runserver, with the check of each app's primary."""
