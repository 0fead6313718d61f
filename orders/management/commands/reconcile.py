from argparse import ArgumentParser
from contextlib import closing
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from orders import reconcile, reservations
from orders.peer import Peer, PeerError
from orders.reconcile import ReconcileError
from outbox.management.subcommand import one_line_errors, show_progress

REPAIRED: Final = 3  # exit status: all differences were repaired
DIFFERENT: Final = 4  # exit status: differences are left
MAX_LISTED: Final = 100
PARTS: Final = {"users": reconcile, "reservations": reservations}


class Command(BaseCommand):
    help = (
        "Compare customer_view with the users of accounts, and the orders with the reservations "
        "of accounts, under concurrent writes; list the differences and repair them. Exit status: "
        "0 no differences, 3 all differences repaired, 4 differences left (always with "
        "--dry-run), 1 the comparison failed."
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
        found = left = 0
        for what, part in PARTS.items():
            differences, still = self._part(peer, what, part, dry_run=dry_run)
            found, left = found + differences, left + still
        if not found:
            return
        if dry_run:
            raise CommandError(f"{found} differ; nothing was repaired", returncode=DIFFERENT)
        if left:
            raise CommandError(
                f"{left} of {found} still differ; check manage.py outbox parked",
                returncode=DIFFERENT,
            )
        raise CommandError(f"{found} differed, all are repaired", returncode=REPAIRED)

    def _part(self, peer: Peer, what: str, part: Any, *, dry_run: bool) -> tuple[int, int]:
        """Compare and repair one part, page by page. Returns how many rows differed, and how many
        of them differ still."""
        rows = 0
        found: list[Any] = []
        left: list[Any] = []
        try:
            for page in part.compare(peer):
                rows += page.rows
                found += page.differences
                if not dry_run:
                    left += part.repair(peer, page.differences)
                show_progress(self.stdout, f"{rows} {what} compared")
        finally:  # after an error too, the lists show what was repaired
            show_progress(self.stdout)
            self._list(found)
            self._list(left, adverb="still ")
        self.stdout.write(f"{rows} {what} compared, {len(found)} differ")
        return len(found), len(left)

    def _list(self, differences: list[Any], *, adverb: str = "") -> None:
        for difference in differences[:MAX_LISTED]:
            self.stdout.write(f"{difference.id}  {adverb}{difference}")
        if len(differences) > MAX_LISTED:
            self.stdout.write(f"and {len(differences) - MAX_LISTED} more")
