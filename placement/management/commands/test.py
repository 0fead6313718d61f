from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import test

from ...homes import has_own_roles


class Command(test.Command):
    """Refuses to run if services have roles of their own, which don't have the right CREATEDB that
    Django's test runner needs. The runner would also use one database without schemas for all
    services that share a server."""

    def handle(self, *args: Any, **options: Any) -> None:
        if not has_own_roles():
            super().handle(*args, **options)
            return
        raise CommandError(
            "Django's test runner can't create the roles and schemas of the services; "
            "run the tests with ./dev test, which is pytest"
        )
