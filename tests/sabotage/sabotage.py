"""One sabotage: a safeguard that is removed, and the test that must then fail."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """In `file`, the text `old` (which occurs once) becomes `new`; then `test` must fail.

    `invariant` is its number in docs/outbox.md; the promises of ring and replicas have none.
    """

    invariant: int | None = None
    promise: str
    file: str
    old: str
    new: str
    test: str
