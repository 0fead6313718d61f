from argparse import ArgumentParser
from contextlib import closing
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from orders import reconcile
from orders.peer import Peer, PeerError
from orders.reconcile import Difference, ReconcileError
from outbox.management.subcommand import one_line_errors, show_progress

REPAIRED: Final = 3  # exit status: all differences were repaired
DIFFERENT: Final = 4  # exit status: differences are left
MAX_LISTED: Final = 100


class Command(BaseCommand):
    help = (
        "Compare customer_view with its owner under concurrent writes, list the rows that differ "
        "and repair them. Exit status: 0 no differences, 3 all differences repaired, 4 "
        "differences left (always with --dry-run), 1 the comparison failed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="compare only, repair nothing")

    @one_line_errors()
    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        try:
            with closing(Peer(reconcile.OWNER)) as peer:
                self._reconcile(peer, dry_run=dry_run)
        except (PeerError, ReconcileError) as exc:
            raise CommandError(str(exc)) from exc

    def _reconcile(self, peer: Peer, *, dry_run: bool) -> None:
        found = self._compare(peer)
        if not found:
            return
        if dry_run:
            raise CommandError(f"{len(found)} differ; nothing was repaired", returncode=DIFFERENT)
        left = reconcile.repair(peer, found)
        for difference in left[:MAX_LISTED]:
            self.stdout.write(f"{difference.id}  still {difference.kind}")
        if left:
            raise CommandError(
                f"{len(left)} of {len(found)} still differ; check manage.py outbox parked",
                returncode=DIFFERENT,
            )
        raise CommandError(f"{len(found)} differed, all are repaired", returncode=REPAIRED)

    def _compare(self, peer: Peer) -> list[Difference]:
        found: list[Difference] = []
        rows, about = 0, reconcile.rows_here()
        for page in reconcile.compare(peer):
            rows += page.rows
            found += page.differences
            show_progress(self.stdout, f"{rows} of about {max(about, rows)} compared")
        show_progress(self.stdout)
        for difference in found[:MAX_LISTED]:
            self.stdout.write(
                f"{difference.id}  {difference.kind}: version {difference.here} here, "
                f"{difference.owner} at {peer.name}"
            )
        if len(found) > MAX_LISTED:
            self.stdout.write(f"and {len(found) - MAX_LISTED} more")
        self.stdout.write(f"{rows} users compared, {len(found)} differ")
        return found
