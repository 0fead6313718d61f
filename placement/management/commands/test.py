from typing import Any, NoReturn

from django.core.management.base import CommandError
from django.core.management.commands import test


class Command(test.Command):
    """Refuses to run. Django's test runner needs CREATEDB, which the services' roles don't have. It
    would also use one database without schemas for all services that share a server."""

    def handle(self, *args: Any, **options: Any) -> NoReturn:
        raise CommandError(
            "Django's test runner can't create the roles and schemas of the services; "
            "run the tests with ./dev test, which is pytest"
        )
