"""The project's own Python files, parsed, and what can be asked of them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.surroundings import CHECKOUT

PACKAGES = ("accounts", "orders", "outbox", "config", "tests")


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    path: str  # from the checkout, with slashes
    tree: ast.Module

    def nodes(self) -> Iterator[ast.AST]:
        return ast.walk(self.tree)

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 0)}"


def parsed(text: str, path: str = "seed.py") -> Module:
    return Module(path=path, tree=ast.parse(text))


@cache
def modules(*packages: str) -> tuple[Module, ...]:
    """Every module of these packages; without any, of the whole project."""
    return tuple(
        parsed(path.read_text(encoding="utf-8"), path.relative_to(CHECKOUT).as_posix())
        for package in packages or PACKAGES
        for path in sorted(Path(CHECKOUT, package).rglob("*.py"))
    )


def dotted(node: ast.AST) -> str:
    """`a.b.c` for a name or a chain of attributes, else what can be told of its end."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def calls(module: Module, *names: str) -> Iterator[ast.Call]:
    """The calls whose last name is one of these: `atomic` finds `transaction.atomic(…)` too."""
    for node in module.nodes():
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in names:
            yield node


def imported(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Every imported name in full, with where it is imported."""
    for node in module.nodes():
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{node.module or '.'}.{alias.name}") for alias in node.names)
