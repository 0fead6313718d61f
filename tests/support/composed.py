"""Reads the compose files as compose does."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

DOCKER: Final = Path(__file__).resolve().parents[2] / "docker"
SHAPES: Final = ("compose.yml", "compose.services.yml")
OURS: Final = "mitosis:${MITOSIS_VERSION:-local}"

Service = Mapping[str, Any]


@cache
def document(name: str) -> Mapping[str, Any]:
    return dict(yaml.safe_load((DOCKER / name).read_text()))


@cache
def services(name: str) -> dict[str, Service]:
    """Returns a compose file's services. Resolves `include` and `extends` as compose does."""
    found: dict[str, Service] = {}
    for included in document(name).get("include", ()):
        found |= services(included)
    return found | {key: extended(value) for key, value in document(name)["services"].items()}


def extended(service: Service) -> Service:
    if "extends" not in service:
        return service
    base = document(service["extends"]["file"])["services"][service["extends"]["service"]]
    merged = {**base, **service}
    merged["environment"] = {**base.get("environment", {}), **service.get("environment", {})}
    merged["secrets"] = [*base.get("secrets", ()), *service.get("secrets", ())]
    return merged
