from typing import Any

from django.core.management.commands import loaddata

from ...owner import as_owner


class Command(loaddata.Command):
    """Django's loaddata, as the owner of the tables: it sets their sequences after the load."""

    def handle(self, *args: Any, **options: Any) -> None:
        with as_owner(options["database"]):
            super().handle(*args, **options)
