from django.contrib.auth.management.commands import changepassword

from ..unapplied import ChecksPrimaries


class Command(ChecksPrimaries, changepassword.Command):
    """Django's changepassword, with the check of each app's primary."""
