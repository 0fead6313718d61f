"""Proves that `customer_view` shows what accounts has, and mends it where it doesn't.

First both sides' buckets are compared, page by page while everybody goes on writing: a bucket that
differs holds suspects, which are wrong or merely on their way. Then each suspect is looked at where
it must agree: the view is read, the owner is asked, and once all that the owner saw then has been
published and applied here, the view is read again (outbox.coverage). What differs now is wrong.
Versions settle the rest: one version of a user has one content.

A row is mended by its owner telling its state once more, through the outbox like any event. One
that the owner lacks goes with `accounts.user.erased.v1`; one that is ahead of its owner is dropped
here first, since nothing that the owner tells could overtake it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
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
from .projections import drop_customer

OWNER: Final = "accounts"
CONSUMER: Final = "customer_view"
PAGE_ROWS: Final = 200_000
BUCKETS_AT_ONCE: Final = 4  # of a page, some 800 rows each, whose rows are asked for
ASKED_AT_ONCE: Final = 1_000
TOLD_AT_ONCE: Final = 1_000
ROUNDS: Final = 10  # for a user that changes all the time
MOST_DIFFERENCES: Final = 10_000
CATCH_UP_SECONDS: Final = 30.0
LOOK_EVERY_SECONDS: Final = 0.02

# The owner compares the same, in this order (accounts.queries).
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
    """The comparison can't be made or finished; the message says why, in one line."""


class Kind(StrEnum):
    """What a row of the view is."""

    RIGHT = "right"
    MOVING = "moving"  # changed while it was looked at: to be looked at again

    CHANGED = "changed"  # the owner's version, another content
    BEHIND = "behind"  # an older version, though all events were applied
    MISSING = "missing"
    AHEAD = "ahead"  # a version that the owner never had
    ORPHAN = "orphan"  # the owner has no such user


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A row that is wrong, with the versions here and at the owner (0: none)."""

    id: UUID
    kind: Kind
    here: int
    owner: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A stretch of the table that was compared."""

    rows: int
    differences: tuple[Difference, ...]


def compare(peer: Peer) -> Iterator[Page]:
    """Compare the whole view with its owner; a page at a time, so that progress can be shown.

    Raises ReconcileError, PeerError or OutboxError; nothing is changed.
    """
    found = 0
    for after, upto, sums in _pages(peer):
        differences = tuple(settle(peer, _suspects(peer, after, upto, sums)))
        found += len(differences)
        if found > MOST_DIFFERENCES:
            raise ReconcileError(
                f"more than {MOST_DIFFERENCES} rows differ: have the owner tell everything, "
                f"manage.py outbox backfill {OWNER}"
            )
        yield Page(rows=sum(rows for rows, _ in sums.values()), differences=differences)


def settle(peer: Peer, suspects: Collection[UUID]) -> Iterator[Difference]:
    """Those of the suspects that are wrong at a position that both sides share."""
    for some in _some(sorted(suspects)):
        open_ = set(some)
        for _ in range(ROUNDS):
            before = CHECKSUMS.of(open_)
            owner, snapshot = _owners(peer, ids=[str(id_) for id_ in open_])
            catch_up(peer, snapshot)
            after = CHECKSUMS.of(open_)
            for id_ in sorted(open_):
                kind = judge(before.get(id_), owner.get(id_), after.get(id_))
                if kind is Kind.MOVING:
                    continue
                open_.discard(id_)
                if kind is not Kind.RIGHT:
                    versions = [stamps.get(id_, (0, ""))[0] for stamps in (after, owner)]
                    yield Difference(id=id_, kind=kind, here=versions[0], owner=versions[1])
            if not open_:
                break
        else:
            raise ReconcileError(f"{len(open_)} users change too often to be compared; try again")


def judge(before: Stamp | None, owner: Stamp | None, after: Stamp | None) -> Kind:
    """What a row is, read here before and after the owner was asked; `after` when all that the
    owner knew had been applied."""
    if owner is None:
        return Kind.ORPHAN if after else Kind.RIGHT
    if after is None:
        return Kind.MISSING
    if before and before[0] > owner[0]:
        return Kind.AHEAD
    if after[0] > owner[0]:
        return Kind.MOVING
    if after[0] < owner[0]:
        return Kind.BEHIND
    return Kind.CHANGED if after[1] != owner[1] else Kind.RIGHT


def repair(peer: Peer, differences: Sequence[Difference]) -> list[Difference]:
    """Have the rows told once more; those that are still wrong after that."""
    for difference in differences:
        if difference.kind is Kind.AHEAD:
            drop_customer(difference.id, version=difference.here)
    ids = [difference.id for difference in differences]
    for some in _some(ids):
        peer.ask("/internal/users/reannounce/", ids=[str(id_) for id_ in some])
    return list(settle(peer, ids))


def catch_up(peer: Peer, snapshot: str) -> None:
    """Wait until the view has been told all that the owner saw in `snapshot`.

    Raises ReconcileError when that takes too long: a relay or the consumer stands still.
    """
    consumer = consuming.named(CONSUMER)
    target: Cursor | None = None
    for _ in paced(every_seconds=LOOK_EVERY_SECONDS, within_seconds=CATCH_UP_SECONDS):
        if target is None:
            cursor = streams.connect().cursor(OWNER)
            asked = {"snapshot": snapshot, "by": cursor.snapshot}
            if not peer.ask("/internal/users/published/", **asked)["published"]:
                continue
            target = cursor
        if coverage.has_applied(consumer, OWNER, target):
            return
    late = f"{CONSUMER} has not applied all of it"
    if target is None:
        late = "the relay of accounts has not published all of it"
    raise ReconcileError(f"no common position within {CATCH_UP_SECONDS:.0f} s: {late}")


def retell(*, after: str) -> str:
    """Have the owner tell its next users above `after` ('' to begin) once more, and wait until the
    view has been told: so it is told no faster than it is read. Returns the last one's id, '' at
    the end."""
    with closing(Peer(OWNER)) as peer:
        answer = peer.ask("/internal/users/retell/", after=after or str(FIRST), rows=TOLD_AT_ONCE)
        catch_up(peer, str(answer["snapshot"]))
    return str(answer["last"] or "")


def _pages(peer: Peer) -> Iterator[tuple[UUID, UUID | None, Sums]]:
    """The owner's pages: the key that one begins above, its last key and its buckets. The last page
    has neither, and reaches to the end. While we compare one page the owner adds up the next."""
    # A connection of its own: no two threads use one, and `settle` asks meanwhile.
    with ThreadPoolExecutor(1) as asking, closing(Peer(peer.name)) as ahead:
        after: UUID = FIRST
        coming = asking.submit(_page, ahead, after)
        while True:
            upto, sums = coming.result()
            if upto is None:
                break
            coming = asking.submit(_page, ahead, upto)
            yield after, upto, sums
            after = upto
    yield after, None, {}


def _page(peer: Peer, after: UUID) -> tuple[UUID | None, Sums]:
    answer = peer.ask("/internal/users/page/", after=str(after), rows=PAGE_ROWS)
    sums = {bucket: (rows, sum_) for bucket, (rows, sum_) in answer["buckets"]}
    return (UUID(answer["last"]) if answer["last"] else None), sums


def _suspects(peer: Peer, after: UUID, upto: UUID | None, owners: Sums) -> set[UUID]:
    """The rows that differ, in the buckets that differ; beyond the owner's last row, all."""
    page: dict[str, Any] = {"after": after, "upto": upto}
    if upto is None:
        left = CHECKSUMS.within(**page, buckets=range(BUCKETS), limit=MOST_DIFFERENCES + 1)
        return set(left)
    ours = CHECKSUMS.sums(after=after, upto=upto)
    differ = sorted({bucket for bucket, _ in owners.items() ^ ours.items()})
    suspects: set[UUID] = set()
    for start in range(0, len(differ), BUCKETS_AT_ONCE):
        some = differ[start : start + BUCKETS_AT_ONCE]
        theirs, _ = _owners(peer, after=str(after), upto=str(upto), buckets=some)
        shown = CHECKSUMS.within(**page, buckets=some, limit=MOST_DIFFERENCES)
        suspects |= {id_ for id_, _ in theirs.items() ^ shown.items()}
    return suspects


def _some(ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    for start in range(0, len(ids), ASKED_AT_ONCE):
        yield ids[start : start + ASKED_AT_ONCE]


def _owners(peer: Peer, **asked: Any) -> tuple[Mapping[UUID, Stamp], str]:
    answer = peer.ask("/internal/users/stamps/", **asked)
    stamps = answer["stamps"].items()
    return {UUID(id_): (version, checksum) for id_, (version, checksum) in stamps}, str(
        answer["snapshot"]
    )


def rows_here() -> int:
    """About how many rows there are to compare: what the planner believes."""
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        cursor.execute(
            "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = %s::regclass",
            [CustomerView._meta.db_table],
        )
        return int(cursor.fetchone()[0])
