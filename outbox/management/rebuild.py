import gc
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from .. import streams
from ..errors import RebuildRefused
from ..rebuilding.rebuild import Progress
from ..rebuilding.rebuild import Rebuild as ProjectionRebuild
from ..rebuilding.shadow import Differences
from ..rebuilding.sources import rebuild_of
from .subcommand import Subcommand, show_progress, stop_on_signals

WIDTH = 24  # the width of the progress bar, in characters


class Rebuild(Subcommand):
    help = (
        "Rebuild a projection in new tables, from stored events or by a backfill from the owner. "
        "Then swap the new and the old tables. A stopped rebuild continues at the next run. Needs "
        "the role that owns the tables."
    )

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the projection's name in consumers.py")
        only = parser.add_mutually_exclusive_group()
        only.add_argument(
            "--dry-run",
            action="store_true",
            help="don't swap: print the differences; the exit status is non-zero if there are any",
        )
        only.add_argument(
            "--hold",
            action="store_true",
            help="don't swap: keep both versions up to date until Ctrl-C",
        )
        only.add_argument(
            "--drop", action="store_true", help="delete an unfinished rebuild and its tables"
        )

    def handle(self, *, name: str, **options: Any) -> None:
        rebuild = rebuild_of(name, streams.connect())
        with rebuild.locked():
            if options["drop"]:
                rebuild.drop()
                self.stdout.write(f"the rebuild of {name} is dropped")
                return
            self._fill(rebuild)
            if options["hold"]:
                self._hold(rebuild)
            elif options["dry_run"]:
                self._compare_and_drop(rebuild)
            else:
                self._compare_and_swap(rebuild)

    def _fill(self, rebuild: ProjectionRebuild) -> None:
        # Without `freeze`, garbage collections scan all objects that Django has loaded, which takes
        # a fifth of a rebuild's time.
        gc.freeze()
        started, progress, total = time.monotonic(), None, rebuild.expected()
        for progress in rebuild.fill():
            self._draw(rebuild.name, progress, total)
        show_progress(self.stdout)
        if progress is not None:
            seconds = time.monotonic() - started
            self.stdout.write(f"{rebuild.name}: {rebuild.summary(progress)} in {seconds:.1f} s")

    def _draw(self, name: str, progress: Progress, total: int) -> None:
        share = min(progress.events / max(total, 1), 1.0)
        bar = "█" * round(share * WIDTH)
        show_progress(
            self.stdout, f"{name}: [{bar:·<{WIDTH}}] {share:4.0%}  {progress.events:,} of {total:,}"
        )

    def _hold(self, rebuild: ProjectionRebuild) -> None:
        stopping = stop_on_signals()
        self.stdout.write(f"{rebuild.name}: both versions follow the events; stop with Ctrl-C")
        rebuild.follow_until(stopping)

    def _compare_and_drop(self, rebuild: ProjectionRebuild) -> None:
        found = rebuild.compare()
        rebuild.drop()
        if found is None:
            raise RebuildRefused(
                f"{rebuild.name} can't be compared: its consumer is behind and makes no progress; "
                "check that `outbox consume` runs"
            )
        if any(one.rows for one in found):
            raise RebuildRefused(described(found))
        self.stdout.write(f"{rebuild.name} matches its events")

    def _compare_and_swap(self, rebuild: ProjectionRebuild) -> None:
        found = rebuild.compare()
        if found is None:
            self.stdout.write(f"{rebuild.name} is behind and isn't compared")
        elif any(one.rows for one in found):
            self.stdout.write(described(found))
        rebuild.swap()
        self.stdout.write(
            f"{rebuild.name} is rebuilt; the swap locked it for {rebuild.locked_ms:.0f} ms"
        )


def described(found: Sequence[Differences]) -> str:
    """The differences in one line."""
    return "; ".join(
        f"{one.rows} rows of {one.table} differ: {', '.join(one.examples)}"
        + (" …" if one.rows > len(one.examples) else "")
        for one in found
        if one.rows
    )
