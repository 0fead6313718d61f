"""Django's deployment checks and the OpenAPI schema report no warning in any shape."""

from collections.abc import Callable

import pytest

from tests.support.manage import manage, managed
from tests.support.surroundings import SHAPES

EVERYTHING = """
from django.core.management import call_command
call_command("check", deploy=True, fail_level="WARNING")
call_command("spectacular", validate=True, fail_on_warn=True, file="/dev/null")
"""


@pytest.mark.shape("accounts", "orders")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_deployment_checks_report_no_warning(
    environment: Callable[..., dict[str, str]], shape: str
) -> None:
    managed(environment(shape, HTTPS="on", LAB="off"), "shell", "--no-imports", "-c", EVERYTHING)


def test_the_deployment_checks_refuse_the_lab(environment: Callable[..., dict[str, str]]) -> None:
    refused = manage(environment("all", HTTPS="on"), "check", "--deploy")
    assert (refused.status, "lab.E001" in refused.output) == (1, True), refused.output
