from typing import Any, Final

from django.core.management.base import BaseCommand, CommandParser

from ..backfill import Backfill
from ..check_setup import CheckSetup
from ..consume import Consume
from ..maintenance import Prune, Restamp, Unsubscribe
from ..parked import Parked
from ..rebuild import Rebuild
from ..relay import Relay
from ..status import Status
from ..subcommand import Subcommand, one_line_errors

SUBCOMMANDS: Final[dict[str, type[Subcommand]]] = {
    "relay": Relay,
    "consume": Consume,
    "status": Status,
    "check-setup": CheckSetup,
    "parked": Parked,
    "backfill": Backfill,
    "rebuild": Rebuild,
    "prune": Prune,
    "restamp": Restamp,
    "unsubscribe": Unsubscribe,
}


class Command(BaseCommand):
    help = "Run, inspect and repair the outbox."

    def add_arguments(self, parser: CommandParser) -> None:
        words = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
        for name, subcommand in SUBCOMMANDS.items():
            subcommand.add_arguments(
                words.add_parser(name, help=subcommand.help, description=subcommand.help)
            )

    def execute(self, *args: Any, **options: Any) -> str | None:
        # Django would end the command at the first error of a check.
        if not SUBCOMMANDS[options["subcommand"]].needs_checks:
            options["skip_checks"] = True
        return super().execute(*args, **options)

    def handle(self, *args: Any, subcommand: str, **options: Any) -> None:
        with one_line_errors():
            SUBCOMMANDS[subcommand](self).handle(**options)
