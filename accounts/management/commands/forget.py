from argparse import ArgumentParser, ArgumentTypeError
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from accounts.domain.commands import ForgetUser
from accounts.erasure import Pending, finish_erasures, forget_user
from accounts.queries import find_user_id
from outbox.management.subcommand import one_line_errors
from outbox.pacing import paced

POLL_SECONDS = 0.2


class Command(BaseCommand):
    help = (
        "Erase a user's personal data: first here, then in each consumer when it reads the event, "
        "and then from older events in the outbox and the streams. The erasure can't be undone. "
        "Needs the role that owns the tables."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="an id or an e-mail address")
        parser.add_argument(
            "--wait",
            type=_seconds,
            default=60.0,
            metavar="SECONDS",
            help="how long to wait for consumers to confirm (60); the worker continues afterwards",
        )

    @one_line_errors()
    def handle(self, *args: Any, user: str, wait: float, **options: Any) -> None:
        user_id = find_user_id(user)
        if user_id is None:
            raise CommandError(f"there is no user {user}")
        forget_user(ForgetUser(user_id=user_id))
        self.stdout.write(f"{user_id}: erased here, and announced")
        if waiting := self._finish(user_id, wait):
            raise CommandError(
                f"older events of {user_id} aren't deleted yet; they wait for "
                f"{', '.join(waiting.waits_for)}. Wait for the worker, or run this command again"
            )
        self.stdout.write(f"{user_id}: older events are deleted from the outbox and the streams")

    def _finish(self, user_id: UUID, within_seconds: float) -> Pending | None:
        reported: tuple[str, ...] = ()
        waiting: Pending | None = None
        for _ in paced(every_seconds=POLL_SECONDS, within_seconds=within_seconds):
            waiting = next(iter(finish_erasures(of=user_id)), None)
            if waiting is None:
                return None
            if waiting.waits_for != reported:
                reported = waiting.waits_for
                self.stdout.write(f"waiting for {', '.join(reported)}")
        return waiting


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ArgumentTypeError(f"expected a number of seconds, 0 or more, not {text!r}")
    return seconds
