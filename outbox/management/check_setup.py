from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags
from django.core.checks.registry import registry
from django.core.management.base import CommandError
from django.db import Error as DatabaseError
from django.db import connections

from .. import streams, tables
from ..checks import catalog, consumers, database, options, servers
from ..consumer import Consumer, ignore
from .subcommand import Subcommand

PACKAGE: Final = f"{tables.__package__}."
SAVES: Final = {True: "saves to disk", False: "saves nothing", None: "doesn't tell if it saves"}


class CheckSetup(Subcommand):
    help = (
        "Check the settings, the tables, the consumers and both servers, and print what was found. "
        "Each finding is one line, with its cure. The exit status is non-zero if there is an "
        "error. Writes nothing."
    )
    needs_checks = False  # it runs them itself, and continues after an error

    def handle(self, **_: Any) -> None:
        found = [*_run_checks(None), *_without_services()]
        databases, refused = servers.databases_answer(_aliases())
        found += [*refused, *servers.sessions_are_direct(databases)]
        try:
            found += _run_checks(databases)
            found += servers.types_are_listed(self._show_services(databases))
        except DatabaseError as exc:
            found.append(servers.query_failed(exc))
        self._show_consumers()
        found += self._check_streams(partitions_differ=any(f.id == "outbox.E004" for f in found))
        self._report([each for each in found if not each.is_silenced()])

    def _show_services(self, databases: list[str]) -> list[str]:
        """Print the migrated services. Returns the databases in which all services are migrated."""
        unmigrated = set()
        for found in tables.every():
            if found.alias not in databases:
                continue
            if not catalog.is_migrated(found):
                unmigrated.add(found.alias)
                continue
            kept = database.partitions_of(found)
            partitions = f"{kept} partitions" if kept else "no event recorded yet"
            self._ok(
                f"{found.label}: {len(tables.BASES)} tables in {found.alias!r}, "
                f"{_version(found.alias)}; {partitions}"
            )
        return [alias for alias in databases if alias not in unmigrated]

    def _show_consumers(self) -> None:
        for consumer in consumers.sound():
            self._ok(f"{consumer.subscriber}: {_described(consumer)}")

    def _check_streams(self, *, partitions_differ: bool) -> list[CheckMessage]:
        if not options.can_use_streams():
            return []  # reported already; there is no address to try
        address = urlsplit(settings.OUTBOX_STREAMS_URL)
        if address.scheme == "memory":
            self._ok("streams: in the memory of one process, for tests")
            return []
        server = streams.connect()
        local = [found.label for found in tables.every()]
        if refused := servers.streams_answer(server, local):
            return refused
        facts = server.facts()
        self._ok(
            f"streams: {facts.name} {facts.version} at {_without_login(address)}, "
            f"maxmemory-policy {facts.policy}, {SAVES[facts.persists]}"
        )
        found = servers.streams_persist(facts)
        return found if partitions_differ else found + servers.producers_publish(server, local)

    def _ok(self, text: str) -> None:
        self.stdout.write(f"{self.style.SUCCESS('ok')}       {text}")

    def _report(self, found: list[CheckMessage]) -> None:
        errors = [each for each in found if each.is_serious()]
        for each in sorted(found, key=lambda each: each.is_serious()):
            is_error = each.is_serious()
            kind = self.style.ERROR("error  ") if is_error else self.style.WARNING("warning")
            self.stdout.write(f"{kind}  {each.msg} {each.hint or ''}".rstrip() + f" ({each.id})")
        counted = f"errors: {len(errors)}, warnings: {len(found) - len(errors)}"
        if errors:
            raise CommandError(counted)
        self.stdout.write(counted)


def _aliases() -> list[str]:
    """The databases of the services; check E010 reports those that aren't PostgreSQL."""
    every = (found for found in tables.every() if found.connection.vendor == "postgresql")
    return list(dict.fromkeys(found.alias for found in every))


def _run_checks(databases: list[str] | None) -> list[CheckMessage]:
    """Run the outbox's own system checks: those of these databases, or those without a database."""
    found: list[CheckMessage] = []
    for check in registry.get_checks(include_deployment_checks=True):
        if check.__module__.startswith(PACKAGE) and (
            (Tags.database in check.tags) is (databases is not None)
        ):
            found += check(app_configs=None, databases=databases)
    return found


def _without_services() -> list[CheckMessage]:
    """E019: without any model of the outbox, there is nothing to check."""
    if any(tables.models_of(config) for config in apps.get_app_configs()):
        return []
    hint = f"Add the models that {PACKAGE}models lists to the models.py of an app."
    return [Error("No installed app has outbox tables.", hint=hint, id="outbox.E019")]


def _version(alias: str) -> str:
    version: int = connections[alias].pg_version  # type: ignore[attr-defined]
    return f"PostgreSQL {version // 10000}.{version % 10000}"


def _described(consumer: Consumer) -> str:
    """The event types of a consumer, those with a handler first."""
    ignored = [type_ for type_, handler in consumer.handlers.items() if handler is ignore]
    handled = [type_ for type_ in consumer.handlers if type_ not in ignored]
    parts = (("handles", handled), ("ignores", ignored))
    return "; ".join(f"{verb} {', '.join(types)}" for verb, types in parts if types)


def _without_login(address: SplitResult) -> str:
    return f"{address.netloc.rpartition('@')[2]}{address.path}"
