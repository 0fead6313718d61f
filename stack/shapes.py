"""The two shapes of the application: one monolith, or a deployment per service."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SERVICES: Final = ("accounts", "orders")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Processes that share one SERVICE: a web server, a worker, beat, a consumer."""

    service: str  # the value of SERVICE
    services: tuple[str, ...]  # what it contains
    prefix: str = ""  # of its processes' names

    @property
    def web(self) -> str:
        return f"{self.prefix}web"


MONOLITH: Final = "monolith"
SHAPES: Final[Mapping[str, tuple[Deployment, ...]]] = {
    MONOLITH: (Deployment(service="all", services=SERVICES),),
    "services": tuple(
        Deployment(service=name, services=(name,), prefix=f"{name}-") for name in SERVICES
    ),
}


def shape_of(service: str) -> str:
    """The shape in which a process with this SERVICE lives."""
    return MONOLITH if service == "all" else "services"


def deployment_of(service: str) -> Deployment:
    """Raises KeyError for a SERVICE that doesn't exist."""
    return {d.service: d for deployments in SHAPES.values() for d in deployments}[service]
