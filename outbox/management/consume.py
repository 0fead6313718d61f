import sys
import threading
from argparse import ArgumentParser
from contextlib import suppress
from functools import partial
from typing import Any

from django.apps import apps
from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import module_has_submodule

from .. import consumer, streams
from ..checks.catalog import is_migrated
from ..consumer import Consumer
from ..consuming.membership import Membership
from ..consuming.reader import readers_of
from ..errors import StreamsUnavailable, Unconfigured
from ..pooling import check_direct
from ..streams import Streams
from ..tables import Tables
from .subcommand import Subcommand, stop_on_signals
from .threads import Threads

RETRY_SECONDS = 1.0


class Consume(Subcommand):
    help = "Run this deployment's consumers, which apply events from the streams. Stop with Ctrl-C."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--consumer", action="append", metavar="NAME", help="only this consumer; repeatable"
        )

    def handle(self, **options: Any) -> None:
        names = options["consumer"]
        chosen = [consumer.named(name) for name in names] if names else _every()
        stopping = stop_on_signals()
        server = streams.connect()
        for found in chosen:
            with suppress(DatabaseError):  # the readers wait for their database
                check_direct(found.tables.connection)
                _check_migrated(found.tables)
        for found in chosen:
            _close(found.tables.connection)
        self._wait_for(server, stopping)
        memberships = {found.subscriber: Membership(found.subscriber, server) for found in chosen}
        for membership in memberships.values():
            membership.renew()
        readers = readers_of(chosen, server, stopping=stopping, memberships=memberships)
        threads = Threads(stopping)
        for reader in readers:
            threads.start(reader.name, reader.run)
        for name, membership in memberships.items():
            threads.start(f"lease of {name}", partial(membership.run, stopping))
        self.stdout.write("consuming: " + ", ".join(reader.name for reader in readers))
        if not threads.join():
            sys.exit(1)  # the log has the error; a supervisor starts the process again

    def _wait_for(self, server: Streams, stopping: threading.Event) -> None:
        """Wait until the stream server answers. Raises StreamsMisconfigured."""
        shown = ""
        while not stopping.is_set():
            try:
                server.check()
            except StreamsUnavailable as exc:
                if str(exc) != shown:
                    shown = str(exc)
                    self.stderr.write(f"{shown}; trying again each second")
                stopping.wait(RETRY_SECONDS)
            else:
                return


def _check_migrated(tables: Tables) -> None:
    """Raises Unconfigured if a table of the outbox is missing."""
    if not is_migrated(tables):
        raise Unconfigured(
            f"{tables.label} isn't migrated: run manage.py migrate --database {tables.alias}"
        )


def _close(connection: BaseDatabaseWrapper) -> None:
    """Close the connection of this thread, which needs it no more: a role has a limited number."""
    if not connection.in_atomic_block:  # of a caller's test
        connection.close()


def _every() -> list[Consumer]:
    """The consumers of this deployment. Raises Unconfigured if there is none."""
    if chosen := list(consumer.every()):
        return chosen
    modules = [
        f"{config.name}.consumers"
        for config in apps.get_app_configs()
        if config.module and module_has_submodule(config.module, "consumers")
    ]
    where = f"; no entry is in CONSUMERS of {', '.join(modules)}" if modules else ""
    raise Unconfigured(
        "no consumer is declared: an app of INSTALLED_APPS needs a consumers.py with the table "
        f"CONSUMERS{where}"
    )
