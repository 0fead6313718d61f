"""Progress files: they show a supervisor that a process runs but one of its loops hangs.

If the setting OUTBOX_PROGRESS_FOLDER names a folder, each loop of a relay and of a consumer touches
a file with the loop's name there after each step, and between two events of a batch, at most once
per EVERY_SECONDS. A loop that waits for a server, or tries again after an error, also makes steps:
a restart wouldn't help it. A file that is old belongs to a loop that hangs, for example in a
handler, or in a connection to a host that has vanished.
"""

import logging
import time
from pathlib import Path
from typing import Final

from django.conf import settings

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 1.0

_due_at: dict[str, float] = {}  # when each loop touches its file again


def report(loop: str) -> None:
    """Touch the file of this loop. Without the setting, do nothing."""
    if (now := time.monotonic()) < _due_at.get(loop, 0.0):  # first, since a reader calls this often
        return
    _due_at[loop] = now + EVERY_SECONDS
    if not (folder := getattr(settings, "OUTBOX_PROGRESS_FOLDER", "")):
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, loop.replace(" ", "-")).touch()
    except OSError as exc:  # the supervisor sees it, because the file gets old
        log.warning("the progress of %s isn't reported: %s", loop, exc)
