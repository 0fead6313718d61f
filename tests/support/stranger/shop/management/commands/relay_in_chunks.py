from django.core.management.base import BaseCommand, CommandParser

from outbox.management.relay import Relay
from outbox.publishing import ticks
from outbox.streams import scripts

COMPARE = "if (held[1] or '') ~= ARGV[1] then return {'CURSOR', held[1] or ''} end"


class Command(BaseCommand):
    """The relay with small chunks, so that faults happen between two chunks. An option removes the
    script's comparison of the cursor, to show which faults the comparison prevents."""

    def add_arguments(self, parser: CommandParser) -> None:
        Relay.add_arguments(parser)
        parser.add_argument("--rows", type=int, required=True)
        parser.add_argument("--without-compare", action="store_true")

    def handle(self, *args, rows: int, without_compare: bool, **options):
        ticks.CHUNK_ROWS = rows
        if without_compare:
            assert COMPARE in scripts.PUBLISH
            scripts.PUBLISH = scripts.PUBLISH.replace(COMPARE, "")
        Relay(self).handle(**options)
