"""Removes one safeguard at a time in every process of a cell.

`tests/sabotage` removes safeguards from the source and runs single tests. Here the recorded history
of real processes must show the loss.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from outbox.consuming import inbox, parking
from outbox.publishing import ticks
from outbox.streams import scripts

COMPARE = "if (held[1] or '') ~= ARGV[1] then return {'CURSOR', held[1] or ''} end"
ENTRY_ID = "local key, id = KEYS[entries[i] + 2], ARGV[6] .. '-' .. entries[i + 1]"
TOP = "tops['p' .. entries[i]] = id"


def remove(name: str) -> None:
    SAFEGUARDS[name]()


def _replaced_in_script(old: str, new: str) -> None:
    assert scripts.PUBLISH.count(old) == 1, old
    scripts.PUBLISH = scripts.PUBLISH.replace(old, new)


def _number_entries_by_the_server() -> None:
    _replaced_in_script(ENTRY_ID, "local key, id = KEYS[entries[i] + 2], '*'")
    _replaced_in_script(TOP, TOP.replace("= id", "= added"))


def _publish_wherever_the_cursor_is() -> None:
    _replaced_in_script(COMPARE, "")


def _move_from_wherever_it_is() -> None:
    original = inbox.Inbox.move

    def move(self: inbox.Inbox, moves: Mapping[int, tuple[str, str]]) -> set[str]:
        held = {partition: self.committed()[partition] for partition in moves}
        return original(self, {p: (held[p], end) for p, (_, end) in moves.items()})

    inbox.Inbox.move = move


def _cut_by_row_id() -> None:
    """Makes a batch of all rows with ids above the last batch, not of the rows its tick sees."""
    make, rows = ticks.Ticks.make, ticks.Ticks.rows

    def noting_the_top(self: ticks.Ticks) -> ticks.Tick | None:
        made = make(self)
        with self._connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS cut (tick bigint, top bigint)")
            tick = made and made.id
            cursor.execute("INSERT INTO cut SELECT %s, max(id) FROM shop_outboxevent", [tick])
        return made

    @contextmanager
    def up_to_the_top(
        self: ticks.Ticks, tick: ticks.Tick, *, after: int
    ) -> Iterator[Iterator[list[ticks.Row]]]:
        self._rows_sql = (
            "BEGIN; DECLARE batch NO SCROLL CURSOR FOR "  # noqa: S608
            "SELECT id, partition, body FROM shop_outboxevent WHERE id > %(after)s "
            f"AND id > (SELECT coalesce(max(top), 0) FROM cut WHERE tick < {tick.id}) "
            f"AND id <= (SELECT coalesce(max(top), 0) FROM cut WHERE tick = {tick.id}) "
            "ORDER BY id; FETCH %(chunk)s FROM batch"
        )
        with rows(self, tick, after=after) as chunks:
            yield chunks

    ticks.FEW_TRANSACTIONS = -1  # then every batch uses the statement above
    ticks.Ticks.make = noting_the_top
    ticks.Ticks.rows = up_to_the_top


def _let_later_events_pass() -> None:
    move = inbox.Inbox.move

    def see_nothing_parked(self: inbox.Inbox, moves: Mapping[int, tuple[str, str]]) -> set[str]:
        move(self, moves)
        return set()

    inbox.Inbox.move = see_nothing_parked


class _Falsy(str):
    """A key that counts as empty: after an event without a key fails, a retry continues."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


def _retry_past_errors() -> None:
    retry = parking.Parking.retry

    def undeterred(self, consumer, *, partition, key):
        return retry(self, consumer, partition=partition, key=_Falsy(key))

    parking.Parking.retry = undeterred


SAFEGUARDS: dict[str, Callable[[], None]] = {
    "deterministic-id": _number_entries_by_the_server,
    "script-compare": _publish_wherever_the_cursor_is,
    "tick": _cut_by_row_id,
    "position-compare": _move_from_wherever_it_is,
    "parking-order": _let_later_events_pass,
    "stop-at-first-error": _retry_past_errors,
}
