from django.core.management.base import CommandParser

from outbox import streams
from outbox.management.commands import relay
from outbox.publishing import ticks

COMPARE = "if (held[1] or '') ~= ARGV[1] then return {'CURSOR', held[1] or ''} end"


class Command(relay.Command):
    """The relay with small chunks, so that faults fall between them; on demand without the
    script's compare, to show what that keeps."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--rows", type=int, required=True)
        parser.add_argument("--without-compare", action="store_true")

    def handle(self, *args, rows: int, without_compare: bool, **options):
        ticks.CHUNK_ROWS = rows
        if without_compare:
            assert COMPARE in streams.PUBLISH
            streams.PUBLISH = streams.PUBLISH.replace(COMPARE, "")
        return super().handle(*args, **options)
