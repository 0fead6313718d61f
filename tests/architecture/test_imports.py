"""The import contracts of pyproject.toml hold, and each of them would break if violated."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

from tests.architecture.seeds import SEEDS, STRAYS
from tests.support.surroundings import CHECKOUT, SHAPES

KINDS: dict[str, type[Contract]] = {
    "forbidden": ForbiddenContract,
    "independence": IndependenceContract,
    "layers": LayersContract,
}
PACKAGES = ("accounts", "orders", "outbox", "config")
CONFIGURATION = read_configuration(str(CHECKOUT / "pyproject.toml"))
CONTRACTS = {contract["id"]: contract for contract in CONFIGURATION["contracts_options"]}


@pytest.fixture(scope="module")
def built() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


@pytest.fixture
def graph(built: grimp.ImportGraph) -> Iterator[grimp.ImportGraph]:
    return copy.deepcopy(built)


def holds(contract_id: str, graph: grimp.ImportGraph) -> bool:
    options: dict[str, Any] = CONTRACTS[contract_id]
    kind = KINDS[options["type"]]
    contract = kind(options["name"], CONFIGURATION["session_options"], options)
    return bool(contract.check(graph, verbose=False).kept)


@pytest.mark.parametrize("contract_id", CONTRACTS)
def test_every_contract_holds(contract_id: str, graph: grimp.ImportGraph) -> None:
    assert holds(contract_id, graph)


@pytest.mark.parametrize(("contract_id", "importer", "imported"), SEEDS)
def test_every_contract_breaks_when_violated(
    contract_id: str, importer: str, imported: str, graph: grimp.ImportGraph
) -> None:
    assert importer in graph.modules, f"{importer} has moved: seed another violation"

    graph.add_import(importer=importer, imported=imported)

    assert not holds(contract_id, graph)


@pytest.mark.parametrize(("contract_id", "stray"), STRAYS)
def test_a_module_outside_every_layer_is_refused(
    contract_id: str, stray: str, graph: grimp.ImportGraph
) -> None:
    graph.add_module(stray)

    assert not holds(contract_id, graph)


def test_every_contract_is_tried() -> None:
    assert {seed[0] for seed in SEEDS} == set(CONTRACTS)


@pytest.mark.parametrize("service", SHAPES["all"])
def test_the_edge_contract_lists_every_edge_module(
    service: str, built: grimp.ImportGraph
) -> None:
    """`admin` may read the rows it shows, and commands may ask where a table lives."""
    named = set(CONTRACTS["edges-call-handlers-and-queries"]["source_modules"])
    there = {f"{service}.{edge}" for edge in ("api", "consumers", "tasks")} & built.modules

    assert there <= named


def test_the_command_refuses_a_copy_with_one_wrong_line(tmp_path: Path) -> None:
    """The whole way from a file on disk to the status that stops CI."""
    for package in PACKAGES:
        shutil.copytree(
            CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    with (tmp_path / "orders" / "queries.py").open("a", encoding="utf-8") as queries:
        queries.write("\nfrom accounts.queries import *\n")

    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "accounts and orders never import each other BROKEN" in done.stdout
    assert "1 broken" in done.stdout
