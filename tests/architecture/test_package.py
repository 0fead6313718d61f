"""The package of the outbox: its version, its requirements and its page on PyPI."""

import ast
import sys
import tomllib

import outbox
from package.build import without_links
from tests.architecture.source import CHECKOUT, imported, modules

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
PACKAGE = tomllib.loads((CHECKOUT / "package" / "pyproject.toml").read_text())["project"]
NAMES = {
    "prometheus_client": "prometheus-client",
    "uuid_utils": "uuid-utils",
    "asgiref": "django",  # requires it
}
DRIVERS = {"psycopg", "psycopg2"}  # a project has one of them
EXTRAS = {"outbox/tasks.py": "celery", "outbox/metrics.py": "metrics"}


def test_the_package_and_the_project_have_the_same_version() -> None:
    assert outbox.__version__ == PROJECT["version"]


def names_of(requirements: list[str]) -> set[str]:
    return {requirement.partition(">")[0].partition("[")[0] for requirement in requirements}


def test_the_package_requires_what_it_imports_and_extras_what_one_module_imports() -> None:
    required: set[str] = set()
    for module in modules("outbox"):
        found = {
            NAMES.get(top, top)
            for node, name in imported(module)
            if not (isinstance(node, ast.ImportFrom) and node.level)
            and (top := name.partition(".")[0]) not in sys.stdlib_module_names
        }
        extra = EXTRAS.get(module.path)
        own = names_of(PACKAGE["optional-dependencies"][extra]) if extra else set()
        assert own <= found, module.path
        required |= found - own
    assert required - DRIVERS == names_of(PACKAGE["dependencies"])


def test_the_page_on_pypi_has_no_link_into_the_checkout() -> None:
    text = (
        "See [pruning](outbox.md#pruning), ![a picture](picture.svg) and [here](#here), or\n"
        "[PyPI](https://pypi.org/).\n\n```python\nHANDLERS[name](envelope)\n```\n"
    )

    assert without_links(text) == (
        "See pruning, a picture and here, or\n"
        "[PyPI](https://pypi.org/).\n\n```python\nHANDLERS[name](envelope)\n```\n"
    )
