import json
from pathlib import Path
from runpy import run_path

import pytest

from config.environ import RENAMED, BadEnvironment, Environment, read
from tests.support import surroundings


def given(shape: str = "all", **changes: str) -> dict[str, str]:
    return surroundings.variables(shape) | changes


def problems_of(source: dict[str, str]) -> list[str]:
    with pytest.raises(BadEnvironment) as caught:
        read(source)
    return caught.value.problems


def test_all_missing_variables_are_reported_with_an_example() -> None:
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
        ("STREAMS_URL", "redis-cluster://a:s3cret@host:1,:2/0"),
        ("STREAMS_URL", "redis-cluster://a:s3cret@host:1,host:port/0"),
        ("STREAMS_URL", "rediss-cluster://a:s3cret@host:1/7"),
        ("STREAMS_URL", "redis-cluster://a:x[s3cret]x@host:1/0"),
        ("STREAMS_URL", "redis://a:x[s3cret]x@host:1/0"),
        ("BROKER_URL", "redis://:s3cret/x@host:1/0"),
        ("BROKER_URL", "redis://a:12/34s3cret@host:1/0"),
        ("BROKER_URL", "redis://host:1/0;redis://:x[s3cret]x@host:1/0"),
        ("CACHE_URLS", "redis://:x[s3cret]x@host:1/0"),
        ("CACHE_URLS", "redis://:s3cret/x@host:1/0"),
        ("BROKER_URL", "redis-cluster://a:s3cret@host:1,host:2/0"),
        ("RING_STORE_URL", "rediss-cluster://a:s3cret@host:1,host:2/0"),
        ("OUTBOX_PARTITIONS", "0"),
        ("ORDERS_DEADLINE_SECONDS", "soon"),
        ("PLACEMENT_STATEMENT_TIMEOUT_SECONDS", "-1"),
        ("THROTTLE_ANON", "often"),
        ("JWT_SIGNING_KEY", "s3cret"),
        ("LOG_LEVEL", "CHATTY"),
    ],
)
def test_a_wrong_value_is_reported_by_name_and_never_shown(name: str, bad: str) -> None:
    (problem,) = problems_of(given(**{name: bad}))

    assert problem.startswith(f"{name} is not usable")
    assert "s3cret" not in problem


def test_with_streams_on_a_cluster_the_rings_members_need_a_server_of_their_own() -> None:
    cluster = {"STREAMS_URL": "redis-cluster://a:s3cret@host:1,[::1]:2,host/0"}
    (problem,) = problems_of(given(**cluster, RING_STORE_URL=""))

    assert problem.startswith("RING_STORE_URL is not set, and STREAMS_URL is a Redis Cluster")
    assert read(given(**cluster, RING_STORE_URL="redis://host/0")).streams_url


def test_a_service_needs_only_its_own_variables() -> None:
    orders = read(given("orders"))

    assert orders.services == ("orders",)
    assert set(orders.database_urls) == {"orders"}
    assert orders.jwt_signing_key == ""
    assert "ACCOUNTS_DATABASE_URL" not in given("orders")


def test_the_lab_is_off_unless_it_is_switched_on() -> None:
    off = read(given(LAB=""))

    assert (off.lab, off.labels, set(off.database_urls)) == (False, off.services, set(off.services))


def test_the_lab_is_installed_with_accounts_and_its_schemas_need_addresses() -> None:
    source = given(LAB="on")
    del source["LAB_COPY_DATABASE_URL"]

    assert read(given(LAB="on")).labels == ("accounts", "orders", "lab", "lab_copy")
    assert read(given("orders", LAB="on")).labels == ("orders",)
    (problem,) = problems_of(source)
    assert problem.startswith("LAB_COPY_DATABASE_URL is not set; expected postgresql://lab_copy:")


def test_the_lab_is_refused_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.environ.find_spec", lambda _: None)
    (problem,) = problems_of(given(LAB="on"))
    assert problem == (
        "LAB is not usable (the production image doesn't contain the lab);"
        " expected on or off; off in production"
    )


def test_a_service_without_accounts_needs_the_address_of_its_keys() -> None:
    source = given("orders")
    del source["JWKS"]

    assert problems_of(source) == [
        "JWKS is not set; expected the path or the URL of accounts' /.well-known/jwks.json"
    ]


def test_debug_is_off_and_https_on_by_default() -> None:
    source = given()
    del source["HTTPS"]
    environment = read(source)

    assert (environment.debug, environment.https) == (False, True)


def test_debug_is_refused_behind_a_proxy() -> None:
    assert problems_of(given(DEBUG="on", PROXIES="1")) == [
        "DEBUG is on, and PROXIES says that other machines send requests"
    ]


def test_the_ids_of_requests_are_trusted_behind_a_proxy_unless_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    off = read(given(PROXIES="1", REQUEST_IDS_TRUSTED="off"))
    monkeypatch.setattr("config.environ.environment", lambda: off)
    settings = run_path(str(surroundings.CHECKOUT / "config" / "settings" / "http.py"))

    assert settings["REQUEST_IDS_TRUSTED"] is off.request_ids_trusted is False
    assert read(given(PROXIES="1")).request_ids_trusted
    assert not read(given()).request_ids_trusted
    assert problems_of(given(REQUEST_IDS_TRUSTED="on")) == [
        "REQUEST_IDS_TRUSTED is on, and PROXIES says that clients send requests directly"
    ]


def test_any_variable_may_be_read_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from a file\n", encoding="utf-8")
    source = given(SECRET_KEY_FILE=str(secret))
    del source["SECRET_KEY"]

    assert read(source).secret_key == "from a file"


def test_a_missing_file_is_reported_as_a_problem(tmp_path: Path) -> None:
    source = given(SECRET_KEY_FILE=str(tmp_path / "gone"))
    del source["SECRET_KEY"]

    (problem,) = problems_of(source)
    assert problem.startswith("SECRET_KEY is not usable (No such file")


def stack_made_in(root: Path) -> None:
    (root / "env").mkdir()
    (root / "env" / "all.json").write_text(json.dumps(given()), encoding="utf-8")


def test_with_debug_on_missing_variables_come_from_the_embedded_stack(tmp_path: Path) -> None:
    stack_made_in(tmp_path)

    environment = read({"DEBUG": "on", "MITOSIS_STACK_ROOT": str(tmp_path), "LOG_LEVEL": "ERROR"})

    assert isinstance(environment, Environment)
    assert environment.streams_url == given()["STREAMS_URL"]
    assert environment.log_level == "ERROR"


def test_with_debug_off_the_embedded_stack_is_ignored(tmp_path: Path) -> None:
    stack_made_in(tmp_path)

    assert problems_of({"MITOSIS_STACK_ROOT": str(tmp_path)})


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_variable_under_its_old_name_is_refused_with_the_new_one(old: str, new: str) -> None:
    assert problems_of(given(**{old: "30"})) == [f"{old} is now called {new}"]


def test_celery_may_have_several_brokers() -> None:
    brokers = "redis://:a;b@one:6379/1;redis://:a;b@two:6379/1"
    assert read(given(BROKER_URL=brokers)).broker_url == brokers
