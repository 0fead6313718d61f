"""The code keeps each import contract of pyproject.toml. A forbidden import breaks a contract."""

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

from tests.architecture.seeds import SEEDS, UNPLACED
from tests.support.surroundings import CHECKOUT, SHAPES

KINDS: dict[str, type[Contract]] = {
    "forbidden": ForbiddenContract,
    "independence": IndependenceContract,
    "layers": LayersContract,
}
CONFIGURATION = read_configuration(str(CHECKOUT / "pyproject.toml"))
PACKAGES: list[str] = CONFIGURATION["session_options"]["root_packages"]
CONTRACTS = {contract["id"]: contract for contract in CONFIGURATION["contracts_options"]}


# One worker runs these tests. So the import graph is built only once.
pytestmark = pytest.mark.xdist_group("import-graph")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def holds(contract_id: str, graph: grimp.ImportGraph) -> bool:
    """Whether the import graph keeps the contract. The check may change the graph."""
    options: dict[str, Any] = CONTRACTS[contract_id]
    kind = KINDS[options["type"]]
    contract = kind(options["name"], CONFIGURATION["session_options"], options)
    return bool(contract.check(graph, verbose=False).kept)


def test_every_contract_holds(graph: grimp.ImportGraph) -> None:
    assert [name for name in CONTRACTS if not holds(name, copy.deepcopy(graph))] == []


def test_every_contract_breaks_when_violated(graph: grimp.ImportGraph) -> None:
    unnoticed = []
    for contract_id, importer, imported in SEEDS:
        assert importer in graph.modules, f"{importer} doesn't exist: update seeds.py"
        violated = copy.deepcopy(graph)
        violated.add_import(importer=importer, imported=imported)
        if holds(contract_id, violated):
            unnoticed.append((contract_id, importer, imported))

    assert unnoticed == []
    assert {seed[0] for seed in SEEDS} == set(CONTRACTS), "a contract without a violation"


def test_a_module_outside_every_layer_is_refused(graph: grimp.ImportGraph) -> None:
    for contract_id, module in UNPLACED:
        extended = copy.deepcopy(graph)
        extended.add_module(module)
        assert not holds(contract_id, extended), module


def test_the_edge_contract_lists_every_edge_module(graph: grimp.ImportGraph) -> None:
    """`admin` isn't listed because it reads the rows it shows; commands look up databases."""
    listed = set(CONTRACTS["edges-call-handlers-and-queries"]["source_modules"])
    edges = {
        f"{service}.{edge}" for service in SHAPES["all"] for edge in ("api", "consumers", "tasks")
    }

    assert edges & graph.modules <= listed


def test_the_command_refuses_a_copy_with_one_wrong_line(tmp_path: Path) -> None:
    """Runs the real command on a changed copy. The command's exit status makes CI fail."""
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
