from django.core.management.base import CommandParser

from outbox.management.commands import relay
from outbox.publishing import ticks
from outbox.streams import client

COMPARE = "if (held[1] or '') ~= ARGV[1] then return {'CURSOR', held[1] or ''} end"


class Command(relay.Command):
    """The relay with small chunks, so that faults happen between them; optionally without the
    script's compare, to show that events are lost then."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--rows", type=int, required=True)
        parser.add_argument("--without-compare", action="store_true")

    def handle(self, *args, rows: int, without_compare: bool, **options):
        ticks.CHUNK_ROWS = rows
        if without_compare:
            assert COMPARE in client.PUBLISH
            client.PUBLISH = client.PUBLISH.replace(COMPARE, "")
        return super().handle(*args, **options)
