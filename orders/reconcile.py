"""Compares `customer_view` with accounts, its owner, and repairs the rows that differ.

First, `compare` compares the buckets of both sides, page by page under concurrent writes. Rows of a
bucket that differs are suspects: wrong, or not up to date yet. Then it checks each suspect at a
common position: it reads the view, asks the owner, waits until all events that the owner saw are
published and applied here (outbox.agreeing.coverage), and reads the view again. A row that differs
now is wrong, because each version of a user has exactly one content.

The owner repairs a row: it announces the row again through the outbox. A row that is
unknown to the owner is deleted by `accounts.user.erased.v1`. A row that is ahead of the owner is
deleted here first: the view would ignore the owner's older version.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from django.db import connections, router

from outbox import consumer as consuming
from outbox import streams
from outbox.agreeing import coverage
from outbox.agreeing.checksums import BUCKETS, FIRST, Checksums, Stamp, Sums
from outbox.pacing import paced
from outbox.streams import Cursor

from .models import CustomerView
from .peer import Peer
from .projections import delete_version

OWNER: Final = "accounts"
CONSUMER: Final = "customer_view"
PAGE_ROWS: Final = 200_000
BUCKETS_AT_ONCE: Final = 4  # per request for stamps; a bucket has about 800 rows
IDS_AT_ONCE: Final = 1_000
BACKFILL_ROWS: Final = 1_000
ROUNDS: Final = 10  # for rows that change during the comparison
MAX_DIFFERENCES: Final = 10_000
CATCH_UP_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.02

# The owner compares the same columns in this order (accounts.queries).
CHECKSUMS: Final = Checksums(
    model=CustomerView,
    columns=(
        "id",
        "name",
        "email",
        "credit_limit",
        "credit_reserved",
        "is_active",
        "version",
        "created_at",
        "updated_at",
    ),
)


class ReconcileError(Exception):
    """The comparison failed; the message is one line with the reason."""


class Kind(StrEnum):
    """The result of the comparison for one row of the view."""

    SAME = "same"
    CHANGING = "changing"  # the row changed during the check and is checked again

    CHANGED = "changed"  # the same version as the owner, with other content
    BEHIND = "behind"  # an older version, though all events were applied
    MISSING = "missing"
    AHEAD = "ahead"  # a version that the owner never had
    ORPHAN = "orphan"  # the owner has no such user


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A wrong row, with its versions here and at the owner (0: no row)."""

    id: UUID
    kind: Kind
    here: int
    owner: int

    def __str__(self) -> str:
        return f"{self.kind}: version {self.here} here, {self.owner} at {OWNER}"


D = TypeVar("D")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[D]):
    """A range of keys that was compared: its rows at the owner, and the differences."""

    rows: int
    differences: tuple[D, ...]


def compare(peer: Peer) -> Iterator[Page[Difference]]:
    """Compare the whole view with its owner, page by page. Changes nothing.

    Raises ReconcileError, PeerError or OutboxError.
    """
    found = 0
    for after, upto, sums in _pages(peer):
        differences = tuple(find_differences(peer, _suspects(peer, after, upto, sums)))
        found += len(differences)
        if found > MAX_DIFFERENCES:
            raise ReconcileError(
                f"more than {MAX_DIFFERENCES} rows differ: run manage.py outbox "
                f"backfill {OWNER} where {OWNER} runs"
            )
        yield Page(rows=sum(rows for rows, _ in sums.values()), differences=differences)


def find_differences(peer: Peer, suspects: Collection[UUID]) -> Iterator[Difference]:
    """Yield the suspects that are wrong at a common position."""
    return check_in_rounds(suspects, partial(_check, peer))


def check_in_rounds(
    suspects: Collection[UUID], check: Callable[[Collection[UUID]], Mapping[UUID, D | None]]
) -> Iterator[D]:
    """Yield the differences that `check` finds. It returns None for a row that is right, and omits
    a row that changed during the check; such a row is checked again."""
    for chunk in chunks(sorted(suspects)):
        unchecked = set(chunk)
        for _ in range(ROUNDS):
            checked = check(unchecked)
            yield from (found for found in checked.values() if found is not None)
            unchecked -= checked.keys()
            if not unchecked:
                break
        else:
            raise ReconcileError(
                f"{len(unchecked)} rows change too often to be compared; run the command again"
            )


def _check(peer: Peer, ids: Collection[UUID]) -> dict[UUID, Difference | None]:
    before = CHECKSUMS.of(ids)
    owner, snapshot = _owner_stamps(peer, ids=[str(id_) for id_ in ids])
    wait_until_applied(peer, snapshot)
    after = CHECKSUMS.of(ids)
    checked: dict[UUID, Difference | None] = {}
    for id_ in sorted(ids):
        kind = classify(before.get(id_), owner.get(id_), after.get(id_))
        here, there = (stamps.get(id_, (0, ""))[0] for stamps in (after, owner))
        if kind is Kind.SAME:
            checked[id_] = None
        elif kind is not Kind.CHANGING:
            checked[id_] = Difference(id=id_, kind=kind, here=here, owner=there)
    return checked


def classify(before: Stamp | None, owner: Stamp | None, after: Stamp | None) -> Kind:
    """Compare the view's row, read twice, with the owner's row, read in between. Before `after` is
    read, all events that the owner saw have been applied."""
    if owner is None:
        return Kind.ORPHAN if after else Kind.SAME
    if after is None:
        return Kind.MISSING
    if before and before[0] > owner[0]:
        return Kind.AHEAD
    if after[0] > owner[0]:
        return Kind.CHANGING
    if after[0] < owner[0]:
        return Kind.BEHIND
    return Kind.CHANGED if after[1] != owner[1] else Kind.SAME


def repair(peer: Peer, differences: Sequence[Difference]) -> list[Difference]:
    """Repair these rows by a backfill; returns those that still differ afterwards."""
    left: list[Difference] = []
    for chunk in chunks(differences):
        for difference in chunk:
            if difference.kind is Kind.AHEAD:
                delete_version(difference.id, version=difference.here)
        ids = [difference.id for difference in chunk]
        peer.ask("/internal/users/backfill/", ids=[str(id_) for id_ in ids])
        left += find_differences(peer, ids)
    return left


def wait_until_applied(peer: Peer, snapshot: str, *, by: str = CONSUMER) -> None:
    """Wait until the consumer `by` has applied all events that the owner's `snapshot` sees.

    Raises ReconcileError after CATCH_UP_SECONDS: the relay or the consumer is stalled.
    """
    consumer = consuming.named(by)
    target: Cursor | None = None
    for _ in paced(every_seconds=POLL_SECONDS, within_seconds=CATCH_UP_SECONDS):
        if target is None:
            cursor = streams.connect().cursor(OWNER)
            query = {"snapshot": snapshot, "by": cursor.snapshot}
            if not peer.ask("/internal/users/published/", **query)["published"]:
                continue
            target = cursor
        if coverage.has_applied(consumer, OWNER, target):
            return
    late = f"{by} has not applied all events of the snapshot"
    if target is None:
        late = f"the relay of {OWNER} has not published all events of the snapshot"
    raise ReconcileError(f"no common position within {CATCH_UP_SECONDS:.0f} s: {late}")


def backfill_customers(*, after: str) -> str:
    """Have the owner announce its next users after the id `after` ('' to start), and wait until the
    view has applied them, so that events don't accumulate. Returns the last id, '' at the end.
    """
    with closing(Peer(OWNER)) as peer:
        answer = peer.ask(
            "/internal/users/backfill-page/", after=after or str(FIRST), rows=BACKFILL_ROWS
        )
        wait_until_applied(peer, str(answer["snapshot"]))
    return str(answer["last"] or "")


def _pages(peer: Peer) -> Iterator[tuple[UUID, UUID | None, Sums]]:
    """Yield the owner's pages: the key before the page, its last key and its buckets. The last page
    has no last key and no buckets. While one page is compared, the next page is requested."""
    # Use a separate connection: the caller uses `peer` meanwhile, and `Peer` isn't thread-safe.
    with ThreadPoolExecutor(1) as executor, closing(Peer(peer.name)) as ahead:
        after: UUID = FIRST
        following = executor.submit(_page, ahead, after)
        while True:
            upto, sums = following.result()
            if upto is None:
                break
            following = executor.submit(_page, ahead, upto)
            yield after, upto, sums
            after = upto
    yield after, None, {}


def _page(peer: Peer, after: UUID) -> tuple[UUID | None, Sums]:
    answer = peer.ask("/internal/users/page/", after=str(after), rows=PAGE_ROWS)
    sums = {bucket: (rows, sum_) for bucket, (rows, sum_) in answer["buckets"]}
    return (UUID(answer["last"]) if answer["last"] else None), sums


def _suspects(peer: Peer, after: UUID, upto: UUID | None, owners: Sums) -> set[UUID]:
    """The rows that differ in the buckets that differ; in the last page, all rows of the view."""
    page: dict[str, Any] = {"after": after, "upto": upto}
    if upto is None:
        return set(CHECKSUMS.within(**page, buckets=range(BUCKETS), limit=MAX_DIFFERENCES + 1))
    ours = CHECKSUMS.sums(after=after, upto=upto)
    differing = sorted({bucket for bucket, _ in owners.items() ^ ours.items()})
    suspects: set[UUID] = set()
    for start in range(0, len(differing), BUCKETS_AT_ONCE):
        buckets = differing[start : start + BUCKETS_AT_ONCE]
        theirs, _ = _owner_stamps(peer, after=str(after), upto=str(upto), buckets=buckets)
        shown = CHECKSUMS.within(**page, buckets=buckets, limit=MAX_DIFFERENCES)
        suspects |= {id_ for id_, _ in theirs.items() ^ shown.items()}
    return suspects


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the items, IDS_AT_ONCE at a time: so many can be checked or repaired in one step."""
    for start in range(0, len(items), IDS_AT_ONCE):
        yield items[start : start + IDS_AT_ONCE]


def _owner_stamps(peer: Peer, **query: Any) -> tuple[Mapping[UUID, Stamp], str]:
    answer = peer.ask("/internal/users/stamps/", **query)
    stamps = {
        UUID(id_): (version, checksum) for id_, (version, checksum) in answer["stamps"].items()
    }
    return stamps, str(answer["snapshot"])


def rows_here() -> int:
    """The planner's estimate of the rows in `customer_view`."""
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        cursor.execute(
            "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = %s::regclass",
            [CustomerView._meta.db_table],
        )
        return int(cursor.fetchone()[0])
