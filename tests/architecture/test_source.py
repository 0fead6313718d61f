"""The code keeps the rules of rules.py, and each rule finds its violations."""

from collections.abc import Callable, Iterator

from tests.architecture import rules
from tests.architecture.source import Module, modules, parsed

Rule = Callable[[Module], Iterator[str]]
PACKAGES = (
    "accounts",
    "orders",
    "outbox",
    "config",
    "placement",
    "pages",
    "stack",
    "lab",
    "package",
)

WHERE: dict[Rule, tuple[str, ...]] = {
    rules.transactions_without_alias: PACKAGES,
    rules.environment_reads: PACKAGES,
    rules.dangerous_imports: (*PACKAGES, "tests"),
    rules.empty_names: (*PACKAGES, "tests"),
    rules.sleeps: ("accounts", "orders", "tests"),
    rules.values_in_sql: PACKAGES,
    rules.unbounded_powers: PACKAGES,
    rules.blocking_indexes: PACKAGES,
    rules.removals_after_builds: PACKAGES,
}

VIOLATIONS: list[tuple[Rule, str]] = [
    (rules.transactions_without_alias, "with transaction.atomic(): pass"),
    (rules.transactions_without_alias, "with atomic('orders'): pass"),
    (rules.transactions_without_alias, "@transaction.atomic\ndef handle(): pass"),
    (rules.transactions_without_alias, "transaction.on_commit(nudge)"),
    (rules.environment_reads, "import os\nos.environ['SERVICE']"),
    (rules.environment_reads, "import os\nos.environ.get('SERVICE')"),
    (rules.environment_reads, "import os\nos.getenv('SERVICE')"),
    (rules.environment_reads, "from os import environ"),
    (rules.environment_reads, "import os\nos.environ.setdefault('SERVICE', 'all')"),
    (rules.dangerous_imports, "import pickle"),
    (rules.dangerous_imports, "from pickle import loads"),
    (rules.sleeps, "import time\ntime.sleep(1)"),
    (rules.sleeps, "from time import sleep\nsleep(1)"),
    (rules.unbounded_powers, "pause = min(5.0, 0.05 * 2**failures)"),
    (rules.values_in_sql, "cursor.execute(f\"SELECT '{name}'\")"),
    (rules.values_in_sql, "cursor.execute('SELECT %s' % name)"),
    (rules.values_in_sql, "cursor.execute('SELECT {}'.format(name))"),
    (rules.values_in_sql, "User.objects.raw('SELECT ' + f'{name}')"),
]

VALID: list[tuple[Rule, str]] = [
    (rules.transactions_without_alias, "with transaction.atomic(using=alias): pass"),
    (rules.transactions_without_alias, "transaction.on_commit(nudge, using=alias)"),
    (rules.environment_reads, "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'x')"),
    (rules.unbounded_powers, "pause = 0.05 * 2 ** min(failures, 10)"),
    (rules.unbounded_powers, "LARGEST = 2**53 - 1"),
    (rules.values_in_sql, "cursor.execute('SELECT %s', [name])"),
    (rules.values_in_sql, "cursor.execute(f'FETCH {CHUNK_ROWS} FROM batch')"),
    (rules.values_in_sql, "cursor.execute(f'LOCK {quote_name(model)}')"),
    (rules.values_in_sql, "cursor.execute(SQL('SELECT {}').format(Identifier(name)))"),
]


def test_every_rule_holds() -> None:
    broken = [
        f"{rule.__name__}: {place}"
        for package in (*PACKAGES, "tests")
        for module in modules(package)
        for rule, packages in WHERE.items()
        if package in packages
        for place in rule(module)
    ]
    assert broken == []


def test_every_rule_finds_its_violations() -> None:
    missed = [(rule.__name__, text) for rule, text in VIOLATIONS if not list(rule(parsed(text)))]
    assert missed == []
    for path in ("orders/utils.py", "accounts/core/user.py"):
        assert list(rules.empty_names(parsed("", path)))
    assert list(rules.blocking_indexes(parsed("migrations.AddIndex()", "orders/migrations/m.py")))
    both = "operations = [AddIndexConcurrently(), RemoveIndexConcurrently()]"
    assert list(rules.removals_after_builds(parsed(both, "orders/migrations/m.py")))
    by_path = {rules.empty_names, rules.blocking_indexes, rules.removals_after_builds}
    assert {rule for rule, _ in VIOLATIONS} | by_path == set(WHERE)


def test_every_rule_accepts_valid_code() -> None:
    assert [(rule.__name__, text) for rule, text in VALID if list(rule(parsed(text)))] == []
