"""Safeguards of the lab (lab/README.md)."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

TECHNIQUES: Final = "tests/integration/lab/test_techniques.py"
WAYS: Final = "tests/integration/lab/test_every_way.py"


SABOTAGES: Final = (
    Sabotage(
        promise="a copy never goes back to an older version",
        file="lab/rows.py",
        old='            " WHERE shown.version < excluded.version RETURNING version",\n',
        new='            " RETURNING version",\n',
        test=f"{TECHNIQUES}::test_the_copy_ignores_a_late_or_repeated_event",
    ),
    Sabotage(
        promise="a write through the ring is visible to the next read",
        file="lab/read_through.py",
        old="        transaction.on_commit(invalidate, using=router.db_for_write(self.rows))\n",
        new="",
        test=f"{TECHNIQUES}::test_a_write_is_visible_to_the_next_read_of_the_ring",
    ),
    Sabotage(
        promise="of two concurrent appends of one version, one fails and tries again",
        file="lab/event_driven.py",
        old="            if self._append(UserUpdated(name), state):\n",
        new="            if self._append(UserUpdated(name), state) or True:\n",
        test=f"{WAYS}::test_concurrent_writers_lose_no_version",
    ),
    Sabotage(
        promise="with modulo too, a node that gets a key back serves no value from before",
        file="placement/ring/modulo.py",
        old="        if _holder(arrangement, digest) != node:\n            break\n",
        new="",
        test="tests/unit/placement/test_ring.py::test_a_key_never_returns_to_a_former_place",
    ),
)
