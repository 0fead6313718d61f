"""One sabotage: a safeguard that is removed, and the test that must then fail."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """Replaces the text `old`, which occurs once in `file`, by `new`. Then `test` must fail.

    `invariant` is the promise's number in docs/outbox.md; those of ring and replicas have none.
    """

    invariant: int | None = None
    promise: str
    file: str
    old: str
    new: str
    test: str
