"""The wheel that `./dev wheel` built is complete, and works in projects that have only the wheel.

pytest runs this file only if an argument names it: it installs packages from PyPI, in versions that
no lock has, so its result can change without a change of the checkout.
"""

import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import outbox
from package.build import LOCK, NAME, build, hatched
from tests.faults.project import REPOSITORY, WITHOUT_CACHES, Project, copy_shop
from tests.support.environments import python_with
from tests.wheel.environments import install, metadata_of

pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(300)]

CHANGELOG = REPOSITORY / "CHANGELOG.md"
MARKDOWN = re.MULTILINE | re.DOTALL
EVENTS = 30
WITH_EXTRAS = {"tasks": "celery", "metrics": "prometheus_client"}  # module: what it imports
IMPORT_EVERYTHING = f"""\
import importlib, pkgutil
import django
from django.apps import apps
django.setup()
apps.get_app_config("{NAME}")
import {NAME}
for module in pkgutil.walk_packages({NAME}.__path__, "{NAME}."):
    try:
        importlib.import_module(module.name)
    except ImportError as exc:
        print(module.name, exc.name)
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(archives: tuple[Path, Path]) -> Path:
    return archives[0]


@pytest.fixture(scope="module", params=["lowest", "newest"])
def python(request: Any, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment with the wheel and psycopg2: without Celery."""
    home = tmp_path_factory.mktemp(request.param) / "venv"
    return install(home, wheel, extras=["psycopg2"], lowest=request.param == "lowest")


class PackagedProject(Project):
    """The shop in a folder of its own, run by the Python of an environment with the wheel."""

    settings = "settings"

    def __init__(self, root: Path, python: str, *, name: str = NAME) -> None:
        super().__init__(root)
        self.root, self.python, self.python_path = root, python, root / "project"
        copy_shop(self.python_path, name=name)

    def migrate(self) -> None:
        self.finish(self.spawn("makemigrations", "shop"))
        self.finish(self.spawn("migrate"))

    def deliver(self, *, total: int) -> None:
        """Record events, publish them with `relay --once`, and let a consumer apply them."""
        load = ("load", "--events", str(EVENTS), "--seconds", "30", "--seed", str(total))
        self.finish(self.spawn(*load))
        self.finish(self.spawn("outbox", "relay", "--once"))
        consumer = self.spawn("outbox", "consume")
        self.settle()
        self.end(consumer)
        verdict = self.verdict()
        assert verdict.faultless, verdict
        assert verdict.committed == total

    def tables(self) -> list[tuple[Any, ...]]:
        return self.ask(
            "SELECT table_name, column_name, data_type, udt_name, is_nullable "
            "FROM information_schema.columns WHERE table_schema = 'public' "
            "UNION ALL SELECT tablename, indexname, indexdef, '', '' FROM pg_indexes "
            "WHERE schemaname = 'public' UNION ALL "
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '' "
            "FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2, 3"
        )


@contextmanager
def running(project: PackagedProject) -> Iterator[PackagedProject]:
    try:
        project.start()
        yield project
    finally:
        project.stop()


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def run(python: str, script: str, project: PackagedProject) -> str:
    done = subprocess.run(
        [python, "-c", script],
        env=project.environment,
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_wheel_contains_the_folder_and_nothing_else_of_this_project(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "outbox"],  # noqa: S607
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    found = contents(wheel)
    described = {name for name in found if name.startswith(f"django_{NAME}-")}

    files = {name.replace("outbox", NAME, 1) for name in listed.stdout.split()}
    assert found - described == files | {f"{NAME}/CHANGELOG.md"}
    assert f"{NAME}/py.typed" in files
    assert {name.partition("/")[2] for name in described} == {
        *("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")
    }


def test_the_metadata_are_complete_and_pass_the_checks_of_pypi(
    archives: tuple[Path, Path],
) -> None:
    found = metadata_of(archives[0])
    assert (found["Name"], found["Version"]) == ("django-mitosis-outbox", outbox.__version__)
    assert (found["License-Expression"], found["License-File"]) == ("BSD-3-Clause", "LICENSE")
    extras = {"celery", "metrics", "psycopg", "psycopg2"}
    assert set(found.get_all("Provides-Extra", [])) == extras
    command = [str(python_with(LOCK)), "-m", "twine", "check", "--strict"]
    checked = subprocess.run([*command, *map(str, archives)], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_source_archive_builds_the_same_wheel(
    archives: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel, source = archives
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()

    again = hatched(folder, tmp_path, "wheel")

    assert again.read_bytes() == wheel.read_bytes()


def test_a_project_with_the_wheel_records_publishes_and_consumes_without_celery(
    python: str, tmp_path: Path
) -> None:
    with running(PackagedProject(tmp_path, python)) as project:
        project.deliver(total=EVENTS)
        project.finish(project.spawn("check", "--database", "default"))
        failed = run(python, IMPORT_EVERYTHING, project).splitlines()

    assert set(failed) == {f"{NAME}.{module} {name}" for module, name in WITH_EXTRAS.items()}


@pytest.mark.parametrize("lowest", [True, False], ids=["lowest", "newest"])
def test_every_module_can_be_imported_with_the_extras(
    lowest: bool, wheel: Path, tmp_path: Path
) -> None:
    extras = ["celery", "metrics", "psycopg2"]
    python = install(tmp_path / "venv", wheel, extras=extras, lowest=lowest)
    names = f"from {NAME} import tasks; print(tasks.relay.name, tasks.prune.name)"
    with running(PackagedProject(tmp_path, python)) as project:
        printed = run(python, IMPORT_EVERYTHING + names, project)

    assert printed.split() == ["outbox.relay", "outbox.prune"]


def test_a_project_with_the_folder_moves_to_the_wheel(python: str, tmp_path: Path) -> None:
    project = PackagedProject(tmp_path, python, name="outbox")
    folder = project.python_path / "outbox"
    shutil.copytree(REPOSITORY / "outbox", folder, ignore=WITHOUT_CACHES)
    with running(project):
        project.deliver(total=EVENTS)
        before = project.tables()

        follow_the_steps(project.python_path)

        assert not folder.exists()
        project.finish(project.spawn("makemigrations", "--check", "--dry-run"))
        project.finish(project.spawn("migrate"))
        assert project.tables() == before
        project.deliver(total=2 * EVENTS)


def follow_the_steps(checkout: Path) -> None:
    """Run the commands of CHANGELOG.md in a checkout of the project, and change its settings."""
    git(checkout, "init", "--quiet")
    git(checkout, "add", "--all")
    git(checkout, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "folder")
    (block,) = re.findall(r"^```console\n(\$ git grep .*?)^```$", CHANGELOG.read_text(), MARKDOWN)
    script = re.sub(r"^[$>] ", "", block, flags=re.MULTILINE)
    subprocess.run(["/bin/sh", "-e", "-c", script], cwd=checkout, check=True)
    settings = checkout / "settings.py"
    settings.write_text(settings.read_text().replace('"outbox"', f'"{NAME}"'))
    shutil.rmtree(checkout / "outbox", ignore_errors=True)  # git leaves Python's caches


def git(checkout: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=checkout, check=True)  # noqa: S607
