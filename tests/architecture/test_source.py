"""Rules that an import contract can't express hold, and each of them finds what it looks for."""

from collections.abc import Callable, Iterator

import pytest

from tests.architecture import rules
from tests.architecture.source import Module, modules, parsed

Rule = Callable[[Module], Iterator[str]]
PACKAGES = ("accounts", "orders", "outbox", "config")

WHERE: dict[Rule, tuple[str, ...]] = {
    rules.transactions_without_alias: PACKAGES,
    rules.environment_reads: PACKAGES,
    rules.dangerous_imports: (*PACKAGES, "tests"),
    rules.empty_names: (*PACKAGES, "tests"),
    rules.sleeps: ("accounts", "orders", "tests"),
    rules.values_in_sql: PACKAGES,
}

BROKEN: list[tuple[Rule, str]] = [
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
    (rules.values_in_sql, "cursor.execute(f\"SELECT '{name}'\")"),
    (rules.values_in_sql, "cursor.execute('SELECT %s' % name)"),
    (rules.values_in_sql, "cursor.execute('SELECT {}'.format(name))"),
    (rules.values_in_sql, "User.objects.raw('SELECT ' + f'{name}')"),
]

ALLOWED: list[tuple[Rule, str]] = [
    (rules.transactions_without_alias, "with transaction.atomic(using=alias): pass"),
    (rules.transactions_without_alias, "transaction.on_commit(nudge, using=alias)"),
    (rules.environment_reads, "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'x')"),
    (rules.values_in_sql, "cursor.execute('SELECT %s', [name])"),
    (rules.values_in_sql, "cursor.execute(f'FETCH {CHUNK_ROWS} FROM batch')"),
    (rules.values_in_sql, "cursor.execute(f'LOCK {quote_name(model)}')"),
    (rules.values_in_sql, "cursor.execute(SQL('SELECT {}').format(Identifier(name)))"),
]


@pytest.mark.parametrize("rule", WHERE, ids=lambda rule: rule.__name__)
def test_every_rule_holds(rule: Rule) -> None:
    assert [place for module in modules(*WHERE[rule]) for place in rule(module)] == []


@pytest.mark.parametrize(("rule", "text"), BROKEN)
def test_a_rule_finds_what_breaks_it(rule: Rule, text: str) -> None:
    assert list(rule(parsed(text)))


@pytest.mark.parametrize(("rule", "text"), ALLOWED)
def test_a_rule_accepts_valid_code(rule: Rule, text: str) -> None:
    assert not list(rule(parsed(text)))


@pytest.mark.parametrize("path", ["orders/utils.py", "accounts/core/user.py"])
def test_a_rule_finds_what_breaks_it(path: str) -> None:
    assert list(rules.empty_names(parsed("", path)))
