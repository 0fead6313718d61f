"""The sizes of the lab's measurements. A figure is the median of `rounds`, by turns."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class LabScale:
    name: str
    users: int
    clients: int
    per_second: float  # requests offered in all parts except at saturation
    rounds: int
    warm_seconds: float  # for each case, before the first round
    saturated_seconds: float
    paced_seconds: float  # to measure latency and the primary's work
    observed_seconds: float  # to observe versions, for each mix and standby
    histories: tuple[int, ...]  # events of one user
    expiries: int  # of one key that a crowd reads
    readers: int  # of this crowd, in each process
    moved_users: int  # cached before a node joins
    calm_seconds: float  # before a part dies
    dead_seconds: float
    back_seconds: float  # after the part was started again
    lists: int  # of 50 orders each
    look_seconds: float  # to observe other processes before each part


FULL: Final = LabScale(
    name="full",
    users=10_000,
    clients=200,
    per_second=200,
    rounds=5,
    warm_seconds=2.0,
    saturated_seconds=4.0,
    paced_seconds=6.0,
    observed_seconds=8.0,
    histories=(1, 20, 200, 2_000),
    expiries=20,
    readers=16,
    moved_users=10_000,
    calm_seconds=2.0,
    dead_seconds=4.0,
    back_seconds=4.0,
    lists=50,
    look_seconds=2.0,
)
QUICK: Final = LabScale(
    name="quick",
    users=600,
    clients=60,
    per_second=250,
    rounds=1,
    warm_seconds=0.1,
    saturated_seconds=0.3,
    paced_seconds=0.5,
    observed_seconds=0.3,
    histories=(1, 20, 200),
    expiries=3,
    readers=8,
    moved_users=600,
    calm_seconds=0.2,
    dead_seconds=0.5,
    back_seconds=0.3,
    lists=4,
    look_seconds=0.1,
)
# For the tests of this package. The figures of this scale have no meaning.
TINY: Final = LabScale(
    name="tiny",
    users=60,
    clients=20,
    per_second=60,
    rounds=1,
    warm_seconds=0.05,
    saturated_seconds=0.05,
    paced_seconds=0.1,
    observed_seconds=0.3,
    histories=(1, 25),
    expiries=1,
    readers=4,
    moved_users=60,
    calm_seconds=0.1,
    dead_seconds=0.2,
    back_seconds=0.2,
    lists=1,
    look_seconds=0.05,
)
SCALES: Final = {scale.name: scale for scale in (FULL, QUICK, TINY)}
