"""Rules that an import contract can't express. Each rule yields the places that break it."""

import ast
from collections.abc import Iterator

from tests.architecture.source import Module, calls, dotted, imported

# Loading these formats can run code from the data.
FORBIDDEN_MODULES = ("pickle", "shelve", "marshal", "dill", "cloudpickle")
EMPTY_NAMES = {"utils", "helpers", "common", "core", "base", "manager", "managers", "misc"}
RELEASED = {  # migrations; they are never changed
    "accounts/migrations/0004_newest_position.py",
    "orders/migrations/0004_old_answers.py",
    "orders/migrations/0007_newest_position.py",
}
READERS = {"config/environ.py", "stack/environment.py"}


def transactions_without_alias(module: Module) -> Iterator[str]:
    """Yields calls without an alias. In the monolith, such an `atomic()` doesn't cover orders,
    and such an `on_commit` runs its function immediately."""
    for call in calls(module, "atomic", "on_commit"):
        if not any(keyword.arg == "using" for keyword in call.keywords):
            yield module.at(call)
    for node in module.nodes:
        decorators = getattr(node, "decorator_list", [])
        for decorator in decorators:
            if dotted(decorator).rpartition(".")[2] == "atomic":
                yield module.at(decorator)


def environment_reads(module: Module) -> Iterator[str]:
    """Yields uses of `os.environ`, except a default for DJANGO_SETTINGS_MODULE."""
    if module.path in READERS:
        return
    harmless = {
        id(call.func.value)
        for call in calls(module, "setdefault")
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.args[0], ast.Constant)
        and call.args[0].value == "DJANGO_SETTINGS_MODULE"
    }
    for node in module.nodes:
        read = dotted(node) in {"os.environ", "os.getenv", "os.environb"}
        if read and id(node) not in harmless:
            yield module.at(node)
    for node, name in imported(module):
        if name in {"os.environ", "os.getenv"}:
            yield module.at(node)


def dangerous_imports(module: Module) -> Iterator[str]:
    for node, name in imported(module):
        if name.split(".")[0] in FORBIDDEN_MODULES:
            yield module.at(node)


def sleeps(module: Module) -> Iterator[str]:
    for call in calls(module, "sleep"):
        yield module.at(call)


def unbounded_powers(module: Module) -> Iterator[str]:
    """Yields powers with a variable exponent. A pause of `2**failures` seconds raises OverflowError
    after 1,024 failures; `2 ** min(failures, 10)` doesn't."""
    for node in module.nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            exponent = node.right
            is_bounded = isinstance(exponent, ast.Call) and dotted(exponent.func) == "min"
            if not is_bounded and not isinstance(exponent, ast.Constant):
                yield module.at(node)


def empty_names(module: Module) -> Iterator[str]:
    """Yields module names that don't describe the content of the module."""
    stem = module.path.rpartition("/")[2].removesuffix(".py")
    folders = set(module.path.split("/")[:-1])
    if stem in EMPTY_NAMES or folders & EMPTY_NAMES:
        yield module.path


def blocking_indexes(module: Module) -> Iterator[str]:
    """Yields migrations that build an index while they lock the table against writes."""
    if "/migrations/" in module.path and module.path not in RELEASED:
        for call in calls(module, "AddIndex", "RemoveIndex"):
            yield module.at(call)


def removals_after_builds(module: Module) -> Iterator[str]:
    """Yields removals of an index in a migration that also changes something else. If the removal
    fails, the next `migrate` would run the rest again, for example drop and build new indexes."""
    if "/migrations/" in module.path:
        removals = list(calls(module, "RemoveIndexConcurrently"))
        others = calls(module, "AddIndexConcurrently", "RunSQL", "RunPython")
        if len(removals) + len(list(others)) > 1:
            yield from map(module.at, removals)


def values_in_sql(module: Module) -> Iterator[str]:
    """Yields calls that build SQL from parts other than constants, table names, `quote_name`."""
    for call in calls(module, "execute", "raw", "extra", "executemany", "RunSQL"):
        if call.args and _is_built(call.args[0]):
            yield module.at(call)


def _is_built(node: ast.AST) -> bool:
    if isinstance(node, ast.JoinedStr):
        return any(
            isinstance(part, ast.FormattedValue) and not _is_a_name_in_sql(part.value)
            for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Mod) or any(map(_is_built, (node.left, node.right)))
    # psycopg2.sql's format() quotes its arguments; a string's format() doesn't.
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "format"
        and isinstance(node.func.value, ast.Constant)
    )


QUOTERS = {"quote_name", "quoted", "_table"}
TABLE_NAMES = {"table", "state", "tick", "event", "position", "parked", "_table", "_state"}


def _is_a_name_in_sql(node: ast.AST) -> bool:
    """Whether the node is a constant, a variable for a table's name, or a call that quotes."""
    if isinstance(node, ast.Call):
        return dotted(node.func).rpartition(".")[2] in QUOTERS
    last = dotted(node).rpartition(".")[2]
    return last.isupper() or last in TABLE_NAMES
