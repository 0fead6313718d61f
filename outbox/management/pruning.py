"""Retention in the process of `outbox relay`, which needs no Celery."""

import logging
import threading

from django.db import Error as DatabaseError

from ..consuming.parking import one_line
from ..consuming.reader import is_transient
from ..errors import DatabaseDiffers, OutboxError, StreamsMisconfigured
from ..publishing.retention import PRUNE_EVERY_SECONDS, prune
from ..streams import Streams
from ..tables import Tables

log = logging.getLogger(__name__)


def prune_regularly(tables: Tables, streams: Streams, *, stopping: threading.Event) -> None:
    """Run a round of retention now and every PRUNE_EVERY_SECONDS, on this thread's connection,
    until `stopping` is set. An error of a server or of its setup is logged once, until it changes
    or a round succeeds; the next round tries again. Raises any other error."""
    logged = ""
    try:
        while not stopping.is_set():
            try:
                prune(tables, streams)
                logged = ""
            except (OutboxError, DatabaseError) as exc:
                if (line := one_line(exc)) != logged:
                    level = logging.INFO if _stops_the_relay(exc) else logging.WARNING
                    log.log(level, "the outbox of %s was not pruned: %s", tables.label, line)
                logged = line
                tables.connection.close_if_unusable_or_obsolete()
            stopping.wait(PRUNE_EVERY_SECONDS)
    finally:
        tables.connection.close()


def _stops_the_relay(error: Exception) -> bool:
    """Whether the relay of this process prints the error too."""
    return is_transient(error) or isinstance(error, StreamsMisconfigured | DatabaseDiffers)
