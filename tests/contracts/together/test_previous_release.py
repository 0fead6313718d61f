"""The previous release's events and this one's: each release can read what the other publishes."""

import ast
import json
import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from django.urls import resolve

from accounts.api.internal import InternalView
from config.celery import app
from tests.support.surroundings import SERVICES
from tests.support.two_releases import put_previous_release

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contracts of the previous release."""
    folder = tmp_path_factory.mktemp("previous")
    put_previous_release(folder)
    return folder / HERE.relative_to(Path(__file__).parents[3])


@pytest.mark.parametrize("service", ["accounts", "orders"])
def test_events_of_the_previous_release_have_only_gained_fields(
    previous: Path, service: str
) -> None:
    found = sorted((previous / service).rglob("*.json"))
    assert len(found) > 5
    for golden in found:
        before, now = (
            json.loads(file.read_text()) for file in (golden, HERE / golden.relative_to(previous))
        )
        assert shape(before).items() <= shape(now).items(), golden.name


def test_accounts_has_every_route_that_orders_of_the_previous_release_calls(
    previous: Path,
) -> None:
    source = "".join(file.read_text() for file in (previous.parents[1] / "orders").glob("*.py"))
    paths = set(re.findall(r"/internal/[a-z/-]+", source))
    assert len(paths) == 5
    for path in paths:
        assert issubclass(resolve(path).func.cls, InternalView)


def test_workers_know_every_task_of_the_previous_release_with_its_arguments(
    previous: Path,
) -> None:
    app.loader.import_default_modules()
    modules = [previous.parents[1] / package / "tasks.py" for package in ("outbox", *SERVICES)]
    tasks = {name: given for module in modules for name, given in tasks_in(module.read_text())}
    assert len(tasks) == 5
    for name, given in tasks.items():
        assert list(signature(app.tasks[name].run).parameters) == given, name


def tasks_in(source: str) -> Iterator[tuple[str, list[str]]]:
    """The name and the arguments of each Celery task in this source."""
    for node in ast.walk(ast.parse(source)):
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            for option in decorator.keywords if isinstance(decorator, ast.Call) else ():
                if option.arg == "name":
                    arguments = [one.arg for one in node.args.args if one.arg != "self"]
                    yield ast.literal_eval(option.value), arguments


def shape(value: Any, path: str = "") -> dict[str, str]:
    """The type of each value in this JSON, by its path."""
    if isinstance(value, dict):
        return {k: t for name in value for k, t in shape(value[name], f"{path}.{name}").items()}
    if isinstance(value, list):
        return {k: t for one in value for k, t in shape(one, f"{path}[]").items()}
    return {path: type(value).__name__}
