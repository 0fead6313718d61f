from argparse import SUPPRESS
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

# Django's own options, so that they can also stand after the subcommand, where users write them.
BASE_OPTIONS: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (("--settings",), {}),
    (("--pythonpath",), {}),
    (("-v", "--verbosity"), {"type": int, "choices": range(4)}),
    (("--traceback",), {"action": "store_true"}),
    (("--no-color",), {"action": "store_true"}),
    (("--force-color",), {"action": "store_true"}),
)


class Command(BaseCommand):
    help = "Run, inspect and repair the outbox."

    def add_arguments(self, parser: CommandParser) -> None:
        words = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
        for name, subcommand in SUBCOMMANDS.items():
            own = words.add_parser(name, help=subcommand.help, description=subcommand.help)
            for names, options in BASE_OPTIONS:
                # Without a default, an option before the subcommand keeps its value.
                own.add_argument(*names, default=SUPPRESS, help=SUPPRESS, **options)
            subcommand.add_arguments(own)

    def execute(self, *args: Any, **options: Any) -> str | None:
        # Django would end the command at the first error of a check.
        if not SUBCOMMANDS[options["subcommand"]].needs_checks:
            options["skip_checks"] = True
        return super().execute(*args, **options)

    def handle(self, *args: Any, subcommand: str, **options: Any) -> None:
        with one_line_errors():
            SUBCOMMANDS[subcommand](self).handle(**options)
