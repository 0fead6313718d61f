"""Gives the rows of a restored outbox transaction ids of its new server.

A restamp works in chunks. Each chunk is one transaction with a few short statements, which also
saves the progress. So a run that was stopped continues at its next call, and the memory doesn't
depend on the number of rows. Until the end, `origin` reports the schema as restored, so no relay,
retention or erasure compares old with new transaction ids.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from django.apps import apps
from django.db import models, reset_queries, transaction

from .. import drivers
from ..errors import Unconfigured
from ..fields import Xid8Field
from ..streams import Streams, order
from ..tables import Tables
from .origin import SYSTEM
from .recovery import pages, rows_of
from .relay import try_lock, unlock
from .ticks import Ticks, clock_ms

RESTAMP = "restamp"  # the state row with the progress, and meanwhile the value of the row `system`
FIRST_XID = "3"  # PostgreSQL's first ordinary transaction id: every snapshot sees it
CHUNK_ROWS = 10_000  # changing this many rows takes a fraction of a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a restamp: a state row that is committed together with the work."""

    tick: int  # the first tick of the new chain; it sees no row that waits
    pruned: str  # the snapshot of the floor: the rows that it sees were sent and pruned, …
    newest: int  # … except rows above this id, which were recorded after the restore
    step: int = 0  # the number of steps that are complete
    after: str = ""  # the last key that the current step has reached
    waiting: int = 0
    deleted: int = 0


class Restamp:
    """Prepares a restored schema for the relay.

    Rows whose events are in the streams were sent, so they are deleted. Rows below the floor were
    sent and pruned after the dump was taken, so they are deleted too. The other rows get
    transaction ids of this server. Rows of other tables with the same transaction ids (such as an
    event store) get new ids too, so that a snapshot sees both rows or neither. If the streams are
    lost, nothing shows which rows were sent, so all rows are sent again.
    """

    def __init__(self, tables: Tables, streams: Streams) -> None:
        self._tables = tables
        self._streams = streams
        self._connection = tables.connection
        self._ticks = Ticks(tables, self._connection)
        self._event = tables.quoted(tables.event)

    @contextmanager
    def locked(self) -> Iterator["Restamp"]:
        """Exclude the service's relays and other restamps, with the rights of the tables' owner.
        Raises Unconfigured if one runs."""
        with self._tables.as_owner():
            yield from self._locked()

    def _locked(self) -> Iterator["Restamp"]:
        label = self._tables.label
        # A session lock ends together with the connection that does the work.
        if not try_lock(self._connection, label):
            raise Unconfigured(f"a relay or a restamp of {label} runs; stop it first")
        try:
            yield self
        finally:
            if self._connection.is_usable():
                unlock(self._connection, label)

    def run(self) -> Iterator[Progress]:
        """Restamp the schema, or continue a run that was stopped. Yields the progress before the
        first chunk and after each chunk."""
        self._progress = self._saved() or self._start()
        yield self._progress
        steps = self._steps()
        while self._progress.step < len(steps):
            for _ in steps[self._progress.step]():
                reset_queries()  # with DEBUG, Django keeps each statement
                yield self._progress
        self._finish()

    def _saved(self) -> Progress | None:
        row = self._state.filter(name=RESTAMP).first()
        return Progress(**json.loads(row.value)) if row else None

    def _start(self) -> Progress:
        """Commit the new tick before any row changes: a snapshot can see the id of the transaction
        that took it."""
        published = self._streams.cursor(self._tables.label)
        self._ticks.first()
        newest = self._ticks.newest_restored_row()
        ticks = self._tables.rows(self._tables.tick)
        floor = ticks.filter(pk__gt=0, pk__lte=published.floor).order_by("-pk").first()
        sent = [order(entry) for entry in (published.at, *published.tops.values()) if entry]
        self._ticks.resume(above=max(sent)[0] if sent else clock_ms())
        self._progress = Progress(
            tick=self._ticks.last(), pruned=floor.snapshot if floor else "", newest=newest
        )
        with transaction.atomic(using=self._tables.alias):
            self._state.update_or_create(name=SYSTEM, defaults={"value": RESTAMP})
            self._save()
        return self._progress

    def _steps(self) -> list[Callable[[], Iterator[None]]]:
        others = [
            partial(self._change_others, model, str(field.column))
            for model in apps.get_app_config(self._tables.label).get_models()
            for field in model._meta.local_fields
            if isinstance(field, Xid8Field) and model is not self._tables.event
        ]
        # The old ticks are deleted before any id changes: they could see new ids. The rows are
        # changed last: until then, their old ids show which other rows wait.
        return [
            self._delete_sent,
            *([self._delete_pruned] if self._progress.pruned else []),
            self._delete_ticks,
            *others,
            self._change_rows,
        ]

    def _delete_sent(self) -> Iterator[None]:
        label, (reached, _, last) = self._tables.label, self._progress.after.partition(" ")
        for partition, top in sorted(self._streams.cursor(label).tops.items()):
            if partition < int(reached or 0):
                continue
            after = last if last and partition == int(reached) else "0-0"
            for page in pages(self._streams.entries_of(label, partition, after=after, upto=top)):
                rows = rows_of(self._tables, page)
                with transaction.atomic(using=self._tables.alias):
                    self._tables.rows(self._tables.event).filter(pk__in=list(rows)).delete()
                    self._save(
                        after=f"{partition} {page[-1].id}",
                        deleted=self._progress.deleted + len(rows),
                    )
                yield
        self._save(step=self._progress.step + 1, after="")

    def _delete_pruned(self) -> Iterator[None]:
        yield from self._walk(
            self._tables.event,
            f"DELETE FROM {self._event} WHERE {{chunk}} AND id <= %(newest)s "  # noqa: S608
            "AND pg_visible_in_snapshot(xid, %(pruned)s::pg_snapshot)",
            counter="deleted",
        )

    def _delete_ticks(self) -> Iterator[None]:
        """Delete all ticks but the new one. A week can have millions of ticks."""
        tick = self._tables.rows(self._tables.tick).get(pk=self._progress.tick)
        with transaction.atomic(using=self._tables.alias):
            with self._connection.cursor() as cursor:
                cursor.execute(f"TRUNCATE {self._tables.quoted(self._tables.tick)}")
            tick.save(using=self._tables.alias, force_insert=True)
            self._save(step=self._progress.step + 1)
        yield

    def _change_others(self, model: type[models.Model], column: str) -> Iterator[None]:
        """Give new ids to the rows whose transaction waits in the outbox, FIRST_XID to the rest."""
        table, xid = self._tables.quoted(model), self._connection.ops.quote_name(column)
        # An append-only table has revoked this right even from its owner.
        yield from self._walk(
            model,
            f"GRANT UPDATE ({xid}) ON {table} TO CURRENT_USER; "  # noqa: S608
            f"UPDATE {table} other SET {xid} = "
            f"CASE WHEN (SELECT true FROM {self._event} event "
            f"WHERE event.xid = other.{xid} LIMIT 1) "  # one index probe for each row
            f"THEN pg_current_xact_id() ELSE '{FIRST_XID}'::xid8 END "
            f"WHERE {{chunk}} AND {xid} <> '{FIRST_XID}'::xid8; "
            f"REVOKE UPDATE ({xid}) ON {table} FROM CURRENT_USER",
        )

    def _change_rows(self) -> Iterator[None]:
        yield from self._walk(
            self._tables.event,
            f"UPDATE {self._event} SET xid = pg_current_xact_id() WHERE {{chunk}}",  # noqa: S608
            counter="waiting",
        )

    def _walk(
        self, model: type[models.Model], statement: str, *, counter: str = ""
    ) -> Iterator[None]:
        """Run the statement for each chunk of the table, in the order of its key. The `counter`
        counts the rows that change."""
        table = self._tables.quoted(model)
        key = self._connection.ops.quote_name(str(model._meta.pk.column))
        step = self._progress.step
        while self._progress.step == step:
            values = {**asdict(self._progress), "rows": CHUNK_ROWS - 1}
            rest = f"{key} > %(after)s" if self._progress.after else "true"
            last_key = (
                f"SELECT {key}::text FROM {table} WHERE {rest} "  # noqa: S608
                f"ORDER BY {key} LIMIT 1 OFFSET %(rows)s"
            )
            with (
                transaction.atomic(using=self._tables.alias),
                self._connection.cursor() as cursor,
            ):
                # Without statistics, as after a restore, a chunk could scan the whole table.
                cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
                cursor.execute(last_key, values)
                (last,) = cursor.fetchone() or ("",)
                chunk = f"{rest} AND {key} <= %(last)s" if last else rest
                drivers.execute(cursor, statement.format(chunk=chunk), {**values, "last": last})
                counted = {counter: values[counter] + cursor.rowcount} if counter else {}
                self._save(after=last, step=step if last else step + 1, **counted)
            yield

    def _finish(self) -> None:
        # The cursor names a snapshot of the old server until the relay publishes the first tick.
        # The tops stay, so consumers receive the entries that they haven't read.
        label = self._tables.label
        self._streams.rewind(label, expected=self._streams.cursor(label).at)
        # The relay stores the new server's identifier at its next start.
        self._state.filter(name__in=(RESTAMP, SYSTEM)).delete()

    @property
    def _state(self) -> models.QuerySet[Any]:
        return self._tables.rows(self._tables.state)

    def _save(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)
        value = json.dumps(asdict(self._progress))
        self._state.update_or_create(name=RESTAMP, defaults={"value": value})
