"""Beat's scheduler, which reports that it runs."""

from typing import Any

from celery import beat

from outbox import progress


class Scheduler(beat.Scheduler):
    """Reports each tick, so that a tick that waits for the broker for ever is noticed."""

    def tick(self, *arguments: Any, **options: Any) -> float:
        seconds: float = super().tick(*arguments, **options)
        progress.report("beat")
        return seconds
