"""placement in another project: without the outbox, in a folder of another name."""

import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import ANY

import pytest

from stack import console
from tests.integration.placement.placed import NAME, ROLE, WITHIN_SECONDS, Placed, copy_to
from tests.integration.placement.replicated import Replicated
from tests.support import surroundings
from tests.support.freezing import frozen
from tests.support.servers import own_ring
from tests.support.waiting import eventually

PAGE = surroundings.CHECKOUT / "docs" / "using-placement.md"


@pytest.fixture(scope="module")
def copied(replicated: Replicated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Placed]:
    folder = tmp_path_factory.mktemp("project")
    copy_to(folder)
    query = replicated.primary.query
    with own_ring(surroundings.ROOT, nodes=3) as (store, nodes):
        replicated.standby.start()
        replicated.resume()
        forget(query)  # what an aborted run left
        query(f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{ROLE}'")
        query(f"CREATE DATABASE {ROLE} OWNER {ROLE}")
        query(f"GRANT CONNECT ON DATABASE postgres TO {ROLE}")  # for `manage.py test`
        for server in (store, *nodes):
            server.flush()
        project = Placed(folder, replicated, store, nodes)
        project.manage("makemigrations", "shop")
        project.manage("migrate")
        yield project
        forget(query)


def forget(query: Callable[..., list[Any]]) -> None:
    """Drop the project's database and role, if there are any."""
    query(f"DROP DATABASE IF EXISTS {ROLE} WITH (FORCE)")
    if query("SELECT 1 FROM pg_roles WHERE rolname = %s", ROLE):
        query(f"DROP OWNED BY {ROLE}")
        query(f"DROP ROLE {ROLE}")


@pytest.fixture
def project(copied: Placed) -> Iterator[Placed]:
    """The project; all its servers are up."""
    servers = copied.servers
    servers.standby.start()
    servers.resume()
    servers.catch_up()
    for node in copied.nodes:
        node.start()
    yield copied
    servers.standby.start()
    servers.resume()


def test_a_client_with_its_token_reads_its_own_write_although_replay_is_paused(
    project: Placed,
) -> None:
    with project.web() as site:
        item = f"/items/{site.post('/items/', name='tea').json()['id']}/"
        assert site.wait_for(item, served_by="replica-0") == ({"name": "tea"}, "replica-0")

        project.servers.pause()
        token = site.post(f"{item}cached/", name="coffee").headers["Consistency-Token"]
        for _ in range(5):
            assert site.get(item, token=token) == ({"name": "coffee"}, "primary")
            assert site.get("/items/newest/", token=token)[1] == "primary"
        assert site.get(item) == ({"name": "tea"}, "replica-0"), "this client wrote nothing"
        assert site.get("/items/newest/")[1] == "replica-0"

        added = site.post("/items/", name="milk").json()["id"]
        assert site.get(f"/items/{added}/")[0] == {"name": "milk"}, "a 404 is asked again"

        project.servers.resume()
        project.servers.catch_up()
        assert site.get(item, token=token) == ({"name": "coffee"}, "replica-0")


def test_the_page_shows_what_its_commands_print(project: Placed) -> None:
    typed = console.commands(console.section(PAGE.read_text(), "The read-write split"))
    starts = next(n for n, command in enumerate(typed) if "ITEMS=" in command.script)
    shown = typed[starts : starts + 6]
    with project.web() as site:
        site.wait_for("/items/", served_by="replica-0")
        done = subprocess.run(
            ["/bin/sh", "-euc", console.script(shown).replace("http://127.0.0.1:8000", site.url)],
            stdout=subprocess.PIPE,
            text=True,
            timeout=30,
            check=True,
        )
    expected = [line for command in shown for line in command.output]
    # On a busy machine the replica may not reach the token in time.
    assert [line.replace("primary", "replica-0") for line in done.stdout.split()] == expected
    assert len(expected) == 2


def test_reads_go_to_the_primary_while_the_replica_is_down(project: Placed) -> None:
    with project.web() as site:
        site.post("/items/", name="tea")
        site.wait_for("/items/", served_by="replica-0")
        eventually(
            lambda: " 0 bytes behind" in project.manage("status"),
            within_seconds=WITHIN_SECONDS,
            what="a replica that is 0 bytes behind",
        )

        project.servers.standby.kill()
        for _ in range(5):
            assert site.get("/items/")[1] == "primary"
        output = project.manage("status")
        assert "not usable: it doesn't answer" in output
        assert "no replica of default works: all reads use the primary" in output

        project.servers.standby.start()
        site.wait_for("/items/", served_by="replica-0")


def test_the_other_nodes_serve_while_a_node_is_down(project: Placed) -> None:
    with project.web() as site:
        cached = f"/items/{site.post('/items/', name='tea').json()['id']}/cached/"
        name, source = site.wait_for(cached, served_by="ring-")
        assert name == {"name": "tea"}
        project.node(source).kill()
        assert site.get(cached)[0] == name, "no read fails"
        assert site.wait_for(cached, served_by="ring-") == (name, ANY)
        assert site.get(cached)[1] != source
        assert re.search("ejected|probing", project.manage("status"))
        project.node(source).start()
        site.wait_for(cached, served_by=source)


def test_a_node_that_resumes_serves_no_data_from_before(project: Placed) -> None:
    with project.web() as site:
        item = f"/items/{site.post('/items/', name='tea').json()['id']}/"
        cached = f"{item}cached/"
        _, source = site.wait_for(cached, served_by="ring-")
        with frozen([project.node(source).pid]):
            site.post(cached, name="coffee")
            assert site.wait_for(cached, served_by="ring-")[0] == {"name": "coffee"}

        def is_back() -> bool:
            name, now = site.get(cached)
            assert name == {"name": "coffee"}
            return now == source

        eventually(is_back, within_seconds=60, what=f"{source} serves the key again")
        key = item.strip("/").replace("items/", "item:")
        assert f":{project.node(source).port}/" in project.manage("ring", "where", key)


def test_the_commands_of_django_work_and_nothing_of_this_repository_is_imported(
    project: Placed,
) -> None:
    assert "no issues" in project.manage("check", "--database", "default")
    assert "[X] 0001_initial" in project.manage("showmigrations", "shop")
    assert "CREATE TABLE" in project.manage("sqlmigrate", "shop", "0001")
    assert "No migrations to apply" in project.manage("migrate")
    assert "OK" in project.manage("test", "shop")
    assert "no app has a schema and roles of its own" in project.manage("provision", fails=True)
    loaded = project.manage("shell", "-c", "import sys; print(sorted(sys.modules))")
    packages = {name.partition(".")[0] for name in loaded.split("'")}
    assert NAME in packages
    assert not packages & {"placement", "outbox", "accounts", "orders", "config"}
