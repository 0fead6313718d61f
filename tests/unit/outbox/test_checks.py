"""The system checks that need no database."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import PropertyMock, patch

import pytest
from django.core.checks import CheckMessage
from django.db import connections

import outbox
from outbox import checks, tables
from outbox import consumer as consuming
from outbox.checks import options, servers
from outbox.consumer import Batched, Consumer, ignore
from outbox.errors import OutboxError, StreamsMisconfigured, StreamsUnavailable

LABEL = next(tables.every()).label
DURATIONS = ("OUTBOX_HANDLER_IDLE_SECONDS", "OUTBOX_RETENTION_SECONDS")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a function that runs a check next to these consumers, and returns its messages."""

    def run(check: Any, *consumers: Consumer) -> list[str]:
        monkeypatch.setattr(consuming, "every", lambda: iter(consumers))
        return [f"{message.id} {message.msg}" for message in check()]

    return run


def consumer(name: str, *types: str, label: str = LABEL) -> Consumer:
    return Consumer(label=label, name=name, handlers=dict.fromkeys(types, ignore))


def test_consumers_of_two_services_have_different_names(found: Any) -> None:
    check = checks.consumers.consumers_have_different_names
    assert found(check, consumer("ledger"), consumer("saga", label="other")) == []
    assert found(check, consumer("ledger"), consumer("ledger", label="other")) == [
        f"outbox.E006 {LABEL} and other have a consumer with the same name, ledger."
    ]


def test_the_producers_of_a_consumer_are_installed_or_listed(found: Any, settings: Any) -> None:
    settings.OUTBOX_PRODUCERS = ["elsewhere"]
    check = checks.consumers.producers_are_known
    known = consumer("ledger", f"{LABEL}.thing.changed.v1", "elsewhere.thing.changed.v1")
    assert found(check, known) == []
    [message] = found(check, consumer("ledger", "shopp.thing.changed.v1"))
    assert message.startswith("outbox.E007")
    assert f"The consumer ledger of {LABEL} reads the events of 'shopp'" in message


def test_a_consumer_is_found_among_those_of_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [consumer("ledger"), consumer("ledger", label="other")]
    monkeypatch.setattr(consuming, "every", lambda: iter(both))
    assert [consuming.named("ledger", of=each.label) for each in both] == both


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", ["soon", None, -1, float("nan")])
def test_a_duration_that_is_no_number_of_seconds_is_an_error(
    settings: Any, name: str, value: Any
) -> None:
    setattr(settings, name, value)
    (found,) = options.durations_are_sound()
    assert (found.id, found.msg) == ("outbox.E002", f"{name} is {value!r}.")


def test_the_default_durations_are_sound(settings: Any) -> None:
    for name in DURATIONS:
        delattr(settings, name)
    assert options.durations_are_sound() == []


def lines(messages: list[CheckMessage]) -> list[str]:
    return [f"{message.id} {message.msg} {message.hint}" for message in messages]


@pytest.mark.parametrize("value", [0, 99999, -1, "many", "", 16.5, True, None, [16]])
def test_a_number_of_partitions_that_cannot_be_used_is_an_error(settings: Any, value: Any) -> None:
    settings.OUTBOX_PARTITIONS = value
    [line] = lines(options.settings_are_sound())
    assert line.startswith(f"outbox.E002 OUTBOX_PARTITIONS is {value!r}. Set it to a number")
    assert not options.can_use_streams()


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("OUTBOX_PARTITIONS", options.settings_are_sound),
        ("OUTBOX_RETENTION_SECONDS", options.durations_are_sound),
    ],
)
def test_a_number_in_a_string_works_with_a_warning(settings: Any, name: str, check: Any) -> None:
    setattr(settings, name, "16")
    [line] = lines(check())
    assert line.startswith(f"outbox.W001 {name} is '16', a string. Write the number 16, or")
    assert options.can_use_streams()


def test_an_address_of_a_cluster_is_checked_without_its_password(settings: Any) -> None:
    settings.OUTBOX_STREAMS_URL = "rediss-cluster://shop:secret@one:1,two/0"
    assert options.can_use_streams()
    settings.OUTBOX_STREAMS_URL = "redis-cluster://shop:secret@one:1,two/7"
    [line] = lines(options.settings_are_sound())
    assert "outbox.E002 OUTBOX_STREAMS_URL has another database than 0" in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("scheme", "error", "cure"),
    [
        ("redis-cluster", StreamsMisconfigured("it refuses the login"), " redis-cluster://USER:"),
        ("redis-cluster", StreamsUnavailable("reset by peer"), " rediss-cluster://"),
        ("rediss-cluster", StreamsUnavailable("it doesn't answer"), " redis-cluster://"),
        ("rediss", StreamsUnavailable("it doesn't answer"), " redis://"),
    ],
)
def test_the_cure_for_a_server_has_the_scheme_of_the_address(
    settings: Any, scheme: str, error: OutboxError, cure: str
) -> None:
    def check() -> None:
        raise error

    settings.OUTBOX_STREAMS_URL = f"{scheme}://shop:secret@one:1/0"
    [line] = lines(servers.streams_answer(SimpleNamespace(check=check), []))  # type: ignore[arg-type]
    assert cure in line


@pytest.mark.parametrize("url", ["localhost:6379", "http://:secret@localhost/0", 6379, ""])
def test_an_address_without_a_known_scheme_is_an_error_without_its_password(
    settings: Any, url: Any
) -> None:
    settings.OUTBOX_STREAMS_URL = url
    [line] = lines(options.settings_are_sound())
    assert "outbox.E002 OUTBOX_STREAMS_URL is" in line
    assert "redis://localhost:6379/0" in line
    assert "secret" not in line


@pytest.mark.parametrize(
    "url",
    [
        "redis://:sec/ret@localhost:6379/0",
        "redis://:sec[ret@localhost:6379/0",
        "redis://:secret@localhost:99999/0",
        "redis://:secret@localhost:6379/0?timout=5",
    ],
)
def test_an_address_that_no_client_can_read_is_an_error_without_its_password(
    settings: Any, url: str
) -> None:
    settings.OUTBOX_STREAMS_URL = url
    [line] = lines(options.settings_are_sound())
    assert line.startswith("outbox.E002 OUTBOX_STREAMS_URL can't be read. Percent-encode the user")
    assert "sec" not in line


@pytest.mark.parametrize("value", ["orders", ["orders", 5], ["orders.saga"], 5, {"orders": 1}])
def test_other_producers_than_a_list_of_labels_are_an_error(settings: Any, value: Any) -> None:
    settings.OUTBOX_PRODUCERS = value
    [line] = lines(options.producers_are_listed())
    assert f"OUTBOX_PRODUCERS is {value!r}. Set it to a list of the labels" in line


def test_a_misspelled_setting_is_an_error_with_the_nearest_name(settings: Any) -> None:
    settings.OUTBOX_RETENTON_SECONDS = 5
    settings.OUTBOX_COLOUR = "blue"
    found = dict(line.split(" ", 2)[1::-1] for line in lines(options.names_are_known()))
    assert found == {"OUTBOX_COLOUR": "outbox.W001", "OUTBOX_RETENTON_SECONDS": "outbox.E002"}
    assert "Rename it to OUTBOX_RETENTION_SECONDS." in "".join(lines(options.names_are_known()))


def test_every_setting_that_the_outbox_reads_is_known() -> None:
    [folder] = outbox.__path__
    read = {
        name
        for file in Path(folder).rglob("*.py")
        for name in re.findall(r"(?:settings\.|settings, \")(OUTBOX_[A-Z_]+)", file.read_text())
    }
    assert read == set(options.KNOWN)


@pytest.mark.parametrize("path", ["nosuch.module", "outbox.errors.nothing", "outbox", 5])
def test_an_owner_that_cannot_be_imported_is_an_error(settings: Any, path: Any) -> None:
    settings.OUTBOX_AS_OWNER = path
    [line] = lines(options.owner_is_importable())
    assert f"OUTBOX_AS_OWNER is {path!r}: no such function." in line


async def asynchronous(envelope: Any) -> None: ...


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ({"ledger": ["shop.item.sold.v1"]}, "the consumer ledger is a list, not a dict"),
        ({"ledger": {}}, "the consumer ledger lists no event type"),
        ({"l" * 59: {"shop.item.sold.v1": print}}, "isn't a string of 1 to 58 characters"),
        ({"ledger": {"sold": print}}, "ledger lists 'sold', which can't be an event type"),
        ({"ledger": {"a.b.c.v1": "print"}}, "a.b.c.v1 in ledger can't be called: it is 'print'"),
        ({"ledger": {"a.b.c.v1": Batched}}, "a.b.c.v1 in ledger is the class Batched"),
        ({"ledger": {"a.b.c.v1": asynchronous}}, "a.b.c.v1 in ledger is an async function"),
        ({"ledger": {"a.b.c.v1": lambda: None}}, "can't be called with one argument: too many"),
        ({"ledger": {"a.b.c.v1": Batched(asynchronous)}}, "is an async function"),  # type: ignore[arg-type]
    ],
)
def test_a_malformed_declaration_is_one_error_and_no_other_check_fails(
    monkeypatch: pytest.MonkeyPatch, declared: Any, problem: str
) -> None:
    app = SimpleNamespace(name="shop", label="shop")
    monkeypatch.setattr(consuming, "declared", lambda: iter([(app, declared)]))
    found = [
        line
        for check in vars(checks.consumers).values()
        if hasattr(check, "tags") and check is not checks.consumers.consumers_are_found
        for line in lines(check())
    ]
    assert len(found) == 1
    assert found[0].startswith("outbox.E014 shop.consumers: ")
    assert problem in found[0]


def test_a_type_that_only_earlier_releases_recorded_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its events are still in tables and streams, so a consumer must be able to list it."""
    app = SimpleNamespace(name="shop", label="shop")
    declared = {"ledger": {"shop.item sold": print, "shop.v1": print}}
    monkeypatch.setattr(consuming, "declared", lambda: iter([(app, declared)]))
    assert lines(checks.consumers.consumers_are_dicts()) == []
    [line] = lines(checks.consumers.types_have_versions())
    assert "lists shop.item sold, shop.v1, not of the form" in line


def test_a_type_without_a_version_is_a_warning(found: Any) -> None:
    check = checks.consumers.types_have_versions
    assert found(check, consumer("ledger", f"{LABEL}.thing.changed.v12")) == []
    [line] = found(check, consumer("ledger", f"{LABEL}.thing.changed", f"{LABEL}.a.b.v1"))
    assert line.startswith(
        f"outbox.W003 The consumer ledger of {LABEL} lists {LABEL}.thing.changed,"
    )


def test_a_server_before_postgresql_15_is_an_error_for_all_its_aliases() -> None:
    aliases = list(dict.fromkeys(each.alias for each in tables.every()))
    for alias in aliases:
        assert connections[alias].vendor == "postgresql"
    with (
        patch.object(type(connections[aliases[0]]), "ensure_connection"),
        patch.object(
            type(connections[aliases[0]]),
            "pg_version",
            new_callable=PropertyMock,
            return_value=140012,
        ),
    ):
        usable, messages = servers.databases_answer(aliases)
    assert usable == []
    [line] = lines(messages)
    assert "can't be used: PostgreSQL 14 is too old." in line
    assert "PostgreSQL 15 or newer" in line
