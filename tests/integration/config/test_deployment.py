"""Django's deployment checks and the OpenAPI schema report no warning in any shape."""

from collections.abc import Callable

import pytest

from tests.support.manage import manage, managed
from tests.support.surroundings import NOWHERE, SHAPES, variables

EVERYTHING = """
from django.core.management import call_command
call_command("check", deploy=True, fail_level="WARNING")
call_command("spectacular", validate=True, fail_on_warn=True, file="/dev/null")
"""

COPY = """
from config.keys import key_set
print(type(key_set()._copy).__name__)
"""


@pytest.mark.shape("accounts", "orders")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_deployment_checks_report_no_warning(
    environment: Callable[..., dict[str, str]], shape: str
) -> None:
    managed(environment(shape, HTTPS="on", LAB="off"), "shell", "--no-imports", "-c", EVERYTHING)


@pytest.mark.shape("accounts", "orders")
@pytest.mark.parametrize(("shape", "copy"), [("orders", "KeyCopies"), ("accounts", "NoCopy")])
def test_a_service_without_a_copy_of_the_keys_starts(shape: str, copy: str) -> None:
    """The keys of accounts may come from a URL in each shape, also in its own."""
    given = variables(shape) | {"JWKS": f"https://{NOWHERE}/.well-known/jwks.json"}
    shown = managed(given, "shell", "--no-imports", "-c", COPY)
    assert shown.strip() == copy


def test_the_deployment_checks_refuse_the_lab(environment: Callable[..., dict[str, str]]) -> None:
    refused = manage(environment("all", HTTPS="on"), "check", "--deploy")
    assert (refused.status, "lab.E001" in refused.output) == (1, True), refused.output
