"""Parses the project's own Python files and searches the parsed modules."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.surroundings import CHECKOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    path: str  # relative to the checkout, with slashes
    nodes: tuple[ast.AST, ...]

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 0)}"


def parsed(text: str, path: str = "seed.py") -> Module:
    return Module(path=path, nodes=tuple(ast.walk(ast.parse(text))))


def modules(package: str) -> Iterator[Module]:
    """Every module of the package."""
    for path in sorted(Path(CHECKOUT, package).rglob("*.py")):
        yield parsed(path.read_text(encoding="utf-8"), path.relative_to(CHECKOUT).as_posix())


def dotted(node: ast.AST) -> str:
    """Returns `a.b.c` for a name or a chain of attributes. If the chain doesn't start with a name,
    the result starts with a dot: `.c` for `f().c`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def calls(module: Module, *names: str) -> Iterator[ast.Call]:
    """Yields calls whose last name is in `names`: `atomic` also finds `transaction.atomic(…)`."""
    for node in module.nodes:
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in names:
            yield node


def imported(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Yields each import statement with each full name that it imports."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{node.module or '.'}.{alias.name}") for alias in node.names)
