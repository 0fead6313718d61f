import os
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts import keys
from accounts.keys import LONGEST_TOKEN, SigningKey

# Longer than a verifier waits between two reads of the key set, also after failures and behind a
# cache.
AFTER_SECONDS: Final = 600


class Command(BaseCommand):
    requires_system_checks = ()  # one of them fails without a usable key
    help = (
        "List, rotate or drop the keys that sign tokens, in the file of JWT_SIGNING_KEY_FILE. "
        "Processes read the file again, without a restart."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|rotate|drop")
        verbs.add_parser("list", help="List the keys, and what each is for.")
        rotate = verbs.add_parser(
            "rotate", help="Add a key, and remove keys whose last token has expired."
        )
        rotate.add_argument(
            "--after",
            type=int,
            default=AFTER_SECONDS,
            metavar="SECONDS",
            help="Until then the key is published and doesn't sign (default: %(default)s).",
        )
        drop = verbs.add_parser(
            "drop",
            help="Remove a key now: all its tokens end.",
            usage="%(prog)s [-h] [--print] -- KID",  # one KID of 64 starts with a hyphen
        )
        drop.add_argument("kid", metavar="KID", help="The key's name in the list.")
        for verb in (rotate, drop):
            verb.add_argument(
                "--print",
                action="store_true",
                dest="is_printed",
                help="Print the new file instead of writing it.",
            )

    def handle(self, *, verb: str, is_printed: bool = False, **options: Any) -> None:
        known = _known()
        if verb == "list":
            self.stdout.write("\n".join(_lines(known)))
            return
        after = _rotated(known, **options) if verb == "rotate" else _without(known, **options)
        text = keys.written(after)
        if is_printed:
            self.stdout.write(text, ending="")
        else:
            _write(text)
            self.stdout.write("\n".join(_lines(after)))


def _known() -> Sequence[SigningKey]:
    """The keys in the file, which may have changed since this process has started."""
    path = settings.JWT_SIGNING_KEY_FILE
    try:
        text = Path(path).read_text(encoding="utf-8") if path else settings.JWT_SIGNING_KEY
        return keys.parse(text)
    except (OSError, ValueError) as exc:
        raise CommandError(f"{path or 'JWT_SIGNING_KEY'}: {exc}") from exc


def _rotated(known: Sequence[SigningKey], *, after: int, **_: Any) -> list[SigningKey]:
    now = timezone.now()
    if after < 0:
        raise CommandError(f"--after {after}: expected seconds from 0")
    if known[-1].signs_from > now:
        raise CommandError(
            f"the key {known[-1].kid} waits until {_time(known[-1].signs_from)}: rotate after that,"
            " or drop it first"
        )
    # A key signs until the next one starts.
    last_use = LONGEST_TOKEN + timedelta(seconds=settings.JWT_LEEWAY_SECONDS)
    kept = [
        key
        for key, following in zip(known, [*known[1:], None], strict=True)
        if following is None or following.signs_from + last_use > now
    ]
    starts = (now + timedelta(seconds=after)).replace(microsecond=0)
    return [*kept, keys.new_key(signs_from=starts)]


def _without(known: Sequence[SigningKey], *, kid: str, **_: Any) -> list[SigningKey]:
    kept = [key for key in known if key.kid != kid]
    if len(kept) == len(known):
        raise CommandError(f"no key has the kid {kid}; `signing_keys list` lists them")
    if not any(key.signs_from <= timezone.now() for key in kept):
        raise CommandError(
            f"{kid} is the only key that signs: first run `signing_keys rotate --after 0`"
        )
    return kept


def _lines(known: Sequence[SigningKey]) -> list[str]:
    current = keys.signing(known, at=timezone.now())
    return [f"{key.kid}  {_role(key, current)}" for key in known]


def _role(key: SigningKey, current: SigningKey) -> str:
    if key is current:
        return "signs"
    if key.signs_from > timezone.now():
        return f"signs from {_time(key.signs_from)}"
    return "is published until its last token expires"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _write(text: str) -> None:
    """Replace the file at once, with its owner and permissions."""
    if not settings.JWT_SIGNING_KEY_FILE:
        raise CommandError(
            "JWT_SIGNING_KEY_FILE isn't set: use --print, and store the keys yourself"
        )
    path = Path(settings.JWT_SIGNING_KEY_FILE).resolve()
    partial = None
    try:
        with NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            partial = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # a lost file of keys ends every session
        before = path.stat()
        os.chown(partial, before.st_uid, before.st_gid)
        partial.chmod(before.st_mode & 0o777)
        partial.replace(path)
    except OSError as exc:
        if partial:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        raise CommandError(f"{path} can't be replaced ({exc.strerror}); use --print") from exc
