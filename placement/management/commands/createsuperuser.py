from django.contrib.auth.management.commands import createsuperuser

from ..unapplied import ChecksPrimaries


class Command(ChecksPrimaries, createsuperuser.Command):
    """Django's createsuperuser, with the check of each app's primary."""
