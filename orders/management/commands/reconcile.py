from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from orders import reconcile, reservations
from orders.peer import Peer, PeerError
from orders.reconcile import Page, ReconcileError
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
            differences = self._compare(what, part.compare(peer))
            found += len(differences)
            if differences and not dry_run:
                still = part.repair(peer, differences)
                left += len(still)
                self._list(still, adverb="still ")
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

    def _compare(self, what: str, pages: Iterator[Page[Any]]) -> list[Any]:
        rows = 0
        found: list[Any] = []
        for page in pages:
            rows += page.rows
            found += page.differences
            show_progress(self.stdout, f"{rows} {what} compared")
        show_progress(self.stdout)
        self._list(found)
        self.stdout.write(f"{rows} {what} compared, {len(found)} differ")
        return found

    def _list(self, differences: list[Any], *, adverb: str = "") -> None:
        for difference in differences[:MAX_LISTED]:
            self.stdout.write(f"{difference.id}  {adverb}{difference}")
        if len(differences) > MAX_LISTED:
            self.stdout.write(f"and {len(differences) - MAX_LISTED} more")
