"""One sabotage: a safeguard that is removed, and the test that must then fail."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """Replaces the text `old`, which occurs once in `file`, by `new`. Then `test` must fail.

    `invariant` is the number in docs/outbox.md; sabotages of other promises have no number.
    """

    invariant: int | None = None
    promise: str
    file: str
    old: str
    new: str
    test: str
