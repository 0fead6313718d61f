import json
from pathlib import Path

import pytest

from config.environ import RENAMED, BadEnvironment, Environment, read
from tests.support import surroundings


def given(shape: str = "all", **changes: str) -> dict[str, str]:
    return surroundings.variables(shape) | changes


def problems_of(source: dict[str, str]) -> list[str]:
    with pytest.raises(BadEnvironment) as caught:
        read(source)
    return caught.value.problems


def test_everything_missing_is_named_at_once_with_a_good_value() -> None:
    problems = problems_of({})

    assert {line.split()[0] for line in problems} == {
        "ACCOUNTS_DATABASE_URL",
        "ORDERS_DATABASE_URL",
        "STREAMS_URL",
        "BROKER_URL",
        "JWT_SIGNING_KEY",
        "SECRET_KEY",
        "ALLOWED_HOSTS",
    }
    assert "expected postgresql://orders:password@host:5432/database" in problems[1]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("SERVICE", "payments"),
        ("DEBUG", "maybe"),
        ("ORDERS_DATABASE_URL", "mysql://orders:s3cret@host/db"),
        ("ORDERS_REPLICA_URLS", "postgresql://one/db,two"),
        ("STREAMS_URL", "http://s3cret@host"),
        ("OUTBOX_PARTITIONS", "0"),
        ("ORDERS_DEADLINE_SECONDS", "soon"),
        ("PLACEMENT_STATEMENT_TIMEOUT_SECONDS", "-1"),
        ("THROTTLE_ANON", "often"),
        ("JWT_SIGNING_KEY", "s3cret"),
        ("LOG_LEVEL", "CHATTY"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_never_shown(name: str, bad: str) -> None:
    (problem,) = problems_of(given(**{name: bad}))

    assert problem.startswith(f"{name} is not usable")
    assert "s3cret" not in problem


def test_a_service_is_given_only_what_is_its_own() -> None:
    orders = read(given("orders"))

    assert orders.services == ("orders",)
    assert set(orders.database_urls) == {"orders"}
    assert orders.jwt_signing_key == ""
    assert "ACCOUNTS_DATABASE_URL" not in given("orders")


def test_a_service_without_accounts_must_know_where_its_keys_are() -> None:
    source = given("orders")
    del source["JWKS"]

    assert problems_of(source) == [
        "JWKS is not set; expected a path to, or the URL of, accounts' /.well-known/jwks.json"
    ]


def test_debug_is_off_and_https_on_unless_told() -> None:
    source = given()
    del source["HTTPS"]
    environment = read(source)

    assert (environment.debug, environment.https) == (False, True)


def test_any_variable_may_be_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from a file\n", encoding="utf-8")
    source = given(SECRET_KEY_FILE=str(secret))
    del source["SECRET_KEY"]

    assert read(source).secret_key == "from a file"


def test_a_file_that_is_not_there_is_a_problem_like_any_other(tmp_path: Path) -> None:
    source = given(SECRET_KEY_FILE=str(tmp_path / "gone"))
    del source["SECRET_KEY"]

    (problem,) = problems_of(source)
    assert problem.startswith("SECRET_KEY is not usable (No such file")


def stack_made_in(root: Path) -> None:
    (root / "env").mkdir()
    (root / "env" / "all.json").write_text(json.dumps(given()), encoding="utf-8")


def test_with_debug_on_the_embedded_stack_fills_what_is_missing(tmp_path: Path) -> None:
    stack_made_in(tmp_path)

    environment = read({"DEBUG": "on", "MITOSIS_STACK_ROOT": str(tmp_path), "LOG_LEVEL": "ERROR"})

    assert isinstance(environment, Environment)
    assert environment.streams_url == given()["STREAMS_URL"]
    assert environment.log_level == "ERROR"


def test_with_debug_off_the_embedded_stack_is_never_looked_at(tmp_path: Path) -> None:
    stack_made_in(tmp_path)

    assert problems_of({"MITOSIS_STACK_ROOT": str(tmp_path)})


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_variable_under_its_old_name_is_refused_with_the_new_one(old: str, new: str) -> None:
    assert problems_of(given(**{old: "30"})) == [f"{old} is now called {new}"]
