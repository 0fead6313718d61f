"""The base class of the commands that import rows of another Django project into a service."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, ClassVar, Final

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from ..dumps import Row, UnreadableDump, rows

STANDARD_INPUT: Final = "-"


class ImportCommand(BaseCommand):
    """Imports each row in a transaction of its own and skips known rows, so after an error you
    correct the cause and run the command again."""

    model: ClassVar[str]  # the rows' model, if --model doesn't name another one
    noun: ClassVar[str]
    errors: ClassVar[tuple[type[Exception], ...]]  # of the handler

    def import_row(self, row: Row) -> bool:
        """Import the row; return False if it is already here."""
        raise NotImplementedError

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", help=f"the output of dumpdata; {STANDARD_INPUT}: standard input"
        )
        parser.add_argument(
            "--model", default=self.model, help=f"the model to import ({self.model})"
        )

    def handle(self, *, file: str, model: str, **_: Any) -> None:
        try:
            imported = [self._import(row) for row in rows(_text(file), model=model)]
        except UnreadableDump as exc:
            raise CommandError(f"{file}: {exc}") from exc
        except (OSError, UnicodeDecodeError) as exc:
            raise CommandError(f"{file}: {getattr(exc, 'strerror', None) or exc}") from exc
        new = sum(imported)
        known = len(imported) - new
        self.stdout.write(f"{new} {self.noun} imported, {known} were imported before")

    def _import(self, row: Row) -> bool:
        expected: tuple[type[Exception], ...] = (ValueError, DatabaseError, *self.errors)
        try:
            return self.import_row(row)
        except expected as exc:
            raise UnreadableDump(f"row {row.key}: {' '.join(str(exc).split())}") from exc


def _text(file: str) -> str:
    return sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text(encoding="utf-8")
