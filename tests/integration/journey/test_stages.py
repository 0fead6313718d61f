"""The example project of docs/journey: its own tests in each stage, and its data between stages."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from placement.provision import Passwords, dsn_for, owner_of, provision
from stack.commands import JOURNEY, JOURNEY_SERVICES
from stack.servers import Postgres
from tests.support import databases
from tests.support.embedded import ROLE_PASSWORD
from tests.support.surroundings import CHECKOUT

PROJECT = CHECKOUT / "docs" / "journey"
ROLES = (JOURNEY, *JOURNEY_SERVICES)
LINES = 300  # the limit for both stages, without their tests and the generated migrations

Run = Callable[..., str]


@pytest.fixture
def run(postgres: Postgres, worker: str) -> Iterator[Run]:
    """Run a Python program in the project's folder, with an empty database."""
    name = databases.name_for(f"{worker}_journey")
    same = Passwords.same(ROLE_PASSWORD)
    provision(postgres.dsn, database=name, services=dict.fromkeys(ROLES, same))
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "PLACEMENT_ADMIN_DATABASE_URL": postgres.dsn,
    }
    for role in (*ROLES, *map(owner_of, ROLES)):
        dsn = dsn_for(postgres.dsn, database=name, role=role, password=ROLE_PASSWORD)
        environment[f"{role.upper()}_DATABASE_URL"] = dsn

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=PROJECT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}"
        return done.stdout

    yield run
    databases.drop(postgres.dsn, name=name)


@pytest.mark.parametrize("stage", ["0", "1"])
def test_the_projects_own_tests_pass_in_each_stage(run: Run, stage: str) -> None:
    run("manage.py", stage, "migrate")
    run("manage.py", stage, "makemigrations", "--check", "--dry-run")
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "--ds", f"stage{stage}.settings"]
    # Django 6.1 has a new setting instead, which Django 5.2 doesn't know.
    options += ["-W", "ignore:The EMAIL_BACKEND setting is deprecated"]
    assert " passed" in run("-m", "pytest", *options, "tests.py")


def test_rows_move_from_stage_0_to_stage_1_and_back(run: Run, tmp_path: Path) -> None:
    def move(source: str, target: str) -> None:
        for app, alias in (("customers", "default"), ("shop", "shop")):
            file = tmp_path / f"{app}.json"
            at, to = ([] if stage == "0" else ["--database", alias] for stage in (source, target))
            models = {"customers": "customers.customer", "shop": "shop.order"}
            file.write_text(run("manage.py", source, "dumpdata", *at, models[app]))
            run("manage.py", target, "loaddata", *to, str(file))

    run("manage.py", "0", "migrate")
    run("manage.py", "1", "migrate")
    listed = run("manage.py", "0", "trade", "ada@example.com")
    assert [line.split()[2] for line in listed.splitlines()] == [
        "CONFIRMED",
        "CANCELLED",
        "CONFIRMED",
    ]

    move("0", "1")
    run("manage.py", "1", "sweep")
    assert run("manage.py", "1", "trade", "bob@example.com").startswith(listed)

    move("1", "0")
    again = run("manage.py", "0", "trade", "eve@example.com").splitlines()
    assert len(again) == 9
    assert again[:3] == listed.splitlines()


def test_the_example_project_is_short() -> None:
    tests = {PROJECT / "tests.py", PROJECT / "conftest.py"}
    written = {*PROJECT.rglob("*.py")} - {*PROJECT.rglob("migrations/*.py")} - tests
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in written) < LINES
