"""Django's deployment checks and the OpenAPI schema report no warning in any shape."""

from collections.abc import Callable

import pytest

from tests.support.manage import managed
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
    managed(environment(shape, HTTPS="on"), "shell", "--no-imports", "-c", EVERYTHING)
