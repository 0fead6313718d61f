"""The sizes of the measurements."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    name: str
    when_named: frozenset[str]  # parts that are measured only when named
    rival: bool  # whether to install a library and compare the event store with it
    rounds: int  # per figure and limit, by turns; the result is the median of the rounds
    backlogs: tuple[int, ...]  # rows that wait for the relay
    retained: tuple[int, ...]  # rows that were sent before and are still in the table
    growth_backlog: int  # rows that wait after the retained rows
    single_events: int  # events for each kind of consumer
    batch_events: int
    classic_events: int
    clients: tuple[int, ...]  # concurrent writers
    slice_seconds: float  # seconds with the outbox row, then as long without the row, and so on
    slices: int  # of each kind
    many_events: int  # in one transaction of `record_many`
    many_rounds: int
    store_writers: int
    store_seconds: float
    ring_keys: int
    ring_seconds: float  # seconds for each client of the cache ring, by turns
    event_seconds: float  # seconds to observe the ring, undisturbed and after each event
    rebuild_events: int  # stored events
    rebuild_writes: int  # orders placed each second during the rebuild
    rebuild_reads: int  # reads of a user's orders, each second
    admin_rows: tuple[int, ...]  # rows of the outbox, the smallest number first
    admin_requests: int  # for each page
    flow_seconds: float  # for each number of open pages, by turns
    flow_rounds: int
    retention_events: int  # written while older events are pruned
    retention_per_second: int
    retention_seconds: float
    retention_look_seconds: float
    prune_seconds: float  # from one pruning task to the next
    offered_per_second: int  # events a second of the end-to-end part
    warm_seconds: float
    load_seconds: float
    load_rounds: int  # the result is the median
    look_seconds: float  # seconds to observe other processes before each part


FULL: Final = Scale(
    name="full",
    when_named=frozenset({"retention", "admin"}),  # these take as long as all other parts
    rival=True,
    rounds=5,
    backlogs=(10_000, 100_000, 1_000_000),
    retained=(10_000, 100_000, 1_000_000, 5_000_000),
    growth_backlog=100_000,
    single_events=20_000,
    batch_events=100_000,
    classic_events=4_000,
    clients=(1, 8, 32),
    slice_seconds=0.4,  # short, since the machine's speed changes within seconds
    slices=25,
    many_events=5_000,
    many_rounds=15,
    store_writers=8,
    store_seconds=3.0,
    ring_keys=50_000,
    ring_seconds=2.0,
    event_seconds=5.0,
    rebuild_events=1_000_000,
    rebuild_writes=50,
    rebuild_reads=100,
    admin_rows=(10_000, 10_000_000),
    admin_requests=30,
    flow_seconds=20.0,
    flow_rounds=3,
    retention_events=10_000_000,
    retention_per_second=8_000,
    retention_seconds=120.0,
    retention_look_seconds=5.0,
    prune_seconds=10.0,  # as in beat's schedule
    offered_per_second=500,
    warm_seconds=5.0,
    load_seconds=60.0,
    load_rounds=3,
    look_seconds=2.0,
)
QUICK: Final = Scale(
    name="quick",
    when_named=frozenset({"retention", "admin", "rebuild", "ring", "ring_events", "flow"}),
    rival=False,
    rounds=1,
    backlogs=(30_000,),
    retained=(20_000,),
    growth_backlog=30_000,
    single_events=1_000,
    batch_events=8_000,
    classic_events=150,
    clients=(1,),
    slice_seconds=0.15,
    slices=3,
    many_events=5_000,
    many_rounds=3,
    store_writers=8,
    store_seconds=0.3,
    ring_keys=10_000,
    ring_seconds=0.2,
    event_seconds=2.0,
    rebuild_events=20_000,
    rebuild_writes=50,
    rebuild_reads=100,
    admin_rows=(1_000, 100_000),
    admin_requests=10,
    flow_seconds=10.0,
    flow_rounds=1,
    retention_events=240_000,
    retention_per_second=8_000,
    retention_seconds=5.0,
    retention_look_seconds=0.5,
    prune_seconds=2.0,
    offered_per_second=500,
    warm_seconds=0.5,
    load_seconds=2.0,
    load_rounds=1,
    look_seconds=0.2,
)
# For the tests of this package. The figures of this scale have no meaning.
TINY: Final = Scale(
    name="tiny",
    when_named=frozenset(),
    rival=False,
    rounds=1,
    backlogs=(200,),
    retained=(200,),
    growth_backlog=200,
    single_events=50,
    batch_events=50,
    classic_events=20,
    clients=(1, 2),
    slice_seconds=0.05,
    slices=1,
    many_events=50,
    many_rounds=1,
    store_writers=2,
    store_seconds=0.05,
    ring_keys=1_000,
    ring_seconds=0.05,
    event_seconds=0.4,
    rebuild_events=200,
    rebuild_writes=20,
    rebuild_reads=20,
    admin_rows=(100, 400),
    admin_requests=2,
    flow_seconds=1.0,
    flow_rounds=1,
    retention_events=4_500,
    retention_per_second=500,
    retention_seconds=0.5,
    retention_look_seconds=0.5,
    prune_seconds=1.0,
    offered_per_second=50,
    warm_seconds=0.2,
    load_seconds=0.5,
    load_rounds=1,
    look_seconds=0.1,
)
SCALES: Final = {scale.name: scale for scale in (FULL, QUICK, TINY)}
