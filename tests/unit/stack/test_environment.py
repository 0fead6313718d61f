"""Checks which variables each process of the stack gets, and which it must not get."""

from pathlib import Path

import pytest

from config.environ import read
from stack.credentials import Credentials
from stack.environment import Stack, for_command, for_process
from stack.servers import Addresses
from stack.shapes import SHAPES, Deployment, deployment_of

ADDRESSES = Addresses(
    admin_dsn="postgresql://postgres:x@127.0.0.1:1/postgres",
    pg_host="127.0.0.1",
    pg_port=1,
    replica_port=2,
    streams_url="redis://:x@127.0.0.1:3/0",
    ring_urls=("redis://:y@127.0.0.1:4/0", "redis://:y@127.0.0.1:5/0"),
)
EVERY = [(shape, deployment) for shape, all_of in SHAPES.items() for deployment in all_of]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(
        root=tmp_path,
        addresses=ADDRESSES,
        credentials=Credentials.of(tmp_path),
        web_ports={"web": 8000, "accounts-web": 8001, "orders-web": 8002},
    )


def variables(stack: Stack, service: str) -> dict[str, str]:
    shape = "monolith" if service == "all" else "services"
    return stack.variables(deployment_of(service), SHAPES[shape])


@pytest.mark.parametrize(("service", "other"), [("accounts", "ORDERS"), ("orders", "ACCOUNTS")])
def test_a_service_never_gets_the_addresses_of_the_other(
    stack: Stack, service: str, other: str
) -> None:
    given = variables(stack, service)

    assert f"{service.upper()}_DATABASE_URL" in given
    assert f"{other}_DATABASE_URL" not in given
    assert f"{other}_REPLICA_URLS" not in given
    passwords = stack.credentials.passwords(other.lower())
    for secret in (
        *(passwords.runtime, passwords.owner, passwords.reader),
        stack.credentials.streams_password(other.lower()),
        stack.credentials.streams_password(f"{other.lower()}-broker"),
    ):
        assert secret not in "".join(given.values())


def test_the_lab_is_in_the_deployment_of_accounts(stack: Stack) -> None:
    for service in ("all", "accounts"):
        given = read(variables(stack, service))
        assert given.labels[-2:] == ("lab", "lab_copy")
        assert given.replica_urls["lab"]
    assert read(variables(stack, "orders")).labels == ("orders",)
    assert "LAB_DATABASE_URL" not in variables(stack, "orders")


def test_only_accounts_holds_the_signing_key(stack: Stack) -> None:
    assert "JWT_SIGNING_KEY_FILE" in variables(stack, "accounts")
    assert "JWT_SIGNING_KEY_FILE" not in variables(stack, "orders")
    assert variables(stack, "orders")["JWKS"] == "http://127.0.0.1:8001/.well-known/jwks.json"


def test_in_the_monolith_both_services_have_one_address(stack: Stack) -> None:
    given = variables(stack, "all")

    assert given["ACCOUNTS_URL"] == given["ORDERS_URL"] == "http://127.0.0.1:8000"


def test_each_service_logs_in_with_its_own_role(stack: Stack) -> None:
    given = variables(stack, "all")

    assert given["ACCOUNTS_DATABASE_URL"].startswith("postgresql://accounts:")
    assert given["ORDERS_DATABASE_URL"].startswith("postgresql://orders:")
    assert given["ORDERS_REPLICA_URLS"].endswith("@127.0.0.1:2/mitosis")


def test_only_commands_of_the_owner_get_the_owners_addresses(stack: Stack) -> None:
    given = variables(stack, "all")
    owners = stack.owner_variables(deployment_of("all"))

    assert not [name for name in given if "OWNER" in name]
    assert owners["ORDERS_OWNER_DATABASE_URL"].startswith("postgresql://orders_owner:")
    assert set(read({**given, **owners}).owner_database_urls) == set(read(given).labels)
    assert given["ORDERS_REPLICA_URLS"].startswith("postgresql://orders_reader:")


def test_each_deployment_logs_in_to_the_stream_server_with_its_own_users(stack: Stack) -> None:
    for service in ("all", "accounts", "orders"):
        given = variables(stack, service)
        assert given["STREAMS_URL"].startswith(f"redis://{service}:")
        assert given["STREAMS_URL"].endswith("@127.0.0.1:3/0")
        assert given["BROKER_URL"].startswith(f"redis://{service}-broker:")
        assert given["BROKER_URL"].endswith("@127.0.0.1:3/1")
        assert given["RING_STORE_URL"].startswith("redis://ring:")


def test_deployments_do_not_share_a_secret_key(stack: Stack) -> None:
    keys = {variables(stack, service)["SECRET_KEY"] for service in ("all", "accounts", "orders")}

    assert len(keys) == 3
    assert all(len(key) >= 50 for key in keys)


@pytest.mark.parametrize(("shape", "deployment"), EVERY)
def test_the_settings_accept_the_environment_of_a_process(
    stack: Stack, shape: str, deployment: Deployment
) -> None:
    given = for_process(stack.variables(deployment, SHAPES[shape]), kind="web")

    environment = read(given)

    assert environment.service == deployment.service
    assert not environment.debug
    assert not environment.https


def test_a_process_inherits_no_other_variables(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERS_DATABASE_URL", "postgresql://somewhere/else")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")

    given = for_process(variables(stack, "accounts"), kind="worker")

    assert "ORDERS_DATABASE_URL" not in given
    assert "AWS_SECRET_ACCESS_KEY" not in given


def test_tuning_variables_are_inherited(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_DEADLINE_SECONDS", "3")
    monkeypatch.setenv("THROTTLE_ANON", "1/min")

    given = for_process(variables(stack, "orders"), kind="beat")

    assert given["ORDERS_DEADLINE_SECONDS"] == "3"
    assert given["THROTTLE_ANON"] == "1/min"


def test_a_command_inherits_all_but_the_addresses_of_the_other_service(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDITOR", "ed")
    monkeypatch.setenv("ORDERS_DATABASE_URL", "postgresql://somewhere/else")

    given = for_command(variables(stack, "accounts"), programs=tmp_path)

    assert given["EDITOR"] == "ed"
    assert given["PATH"].startswith(str(tmp_path))
    assert given["PLACEMENT_STATEMENT_TIMEOUT_SECONDS"] == "0"
    assert "ORDERS_DATABASE_URL" not in given


def test_process_names_include_the_service_only_in_the_divided_shape() -> None:
    names = {shape: [deployment.web for deployment in all_of] for shape, all_of in SHAPES.items()}

    divided = ["accounts-web", "orders-web"]
    assert names == {
        "monolith": ["web"],
        "services": divided,
        "services on own servers": divided,
    }
