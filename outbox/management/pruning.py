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

QUIET_ROUNDS = 6  # for a minute, the relay's own line is enough


def prune_regularly(tables: Tables, streams: Streams, *, stopping: threading.Event) -> None:
    """Run a round of retention now and every PRUNE_EVERY_SECONDS, on this thread's connection,
    until `stopping` is set. An error of a server or of its setup is logged once, until it changes
    or a round succeeds; the next round tries again. Raises any other error.

    An error that the relay prints too is a warning only after QUIET_ROUNDS: it may concern only
    this connection, e.g. if the role may open no other.
    """
    logged, failures = (logging.NOTSET, ""), 0
    try:
        while not stopping.is_set():
            try:
                streams.check()  # the relay's own check may still be running
                prune(tables, streams)
                logged, failures = (logging.NOTSET, ""), 0
            except (OutboxError, DatabaseError) as exc:
                failures += 1
                is_quiet = failures <= QUIET_ROUNDS and _stops_the_relay(exc)
                found = (logging.INFO if is_quiet else logging.WARNING, one_line(exc))
                if found != logged:
                    level, line = found
                    log.log(level, "the outbox of %s was not pruned: %s", tables.label, line)
                logged = found
                tables.connection.close_if_unusable_or_obsolete()
            stopping.wait(PRUNE_EVERY_SECONDS)
    finally:
        tables.connection.close()


def _stops_the_relay(error: Exception) -> bool:
    """Whether the relay of this process prints the error too."""
    return is_transient(error) or isinstance(error, StreamsMisconfigured | DatabaseDiffers)
