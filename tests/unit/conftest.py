"""Turns off Hypothesis's time limits, since a busy machine may run the examples slowly."""

import pytest
from hypothesis import HealthCheck, settings

PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("short", max_examples=25, **PATIENT)
settings.register_profile("full", max_examples=100, **PATIENT)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if config.getoption("--full") else "short")
