"""The two shapes of the application: one monolith, or one deployment for each service.

The deployments of the second shape share a PostgreSQL server, or have one server each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SERVICES: Final = ("accounts", "orders")
LAB: Final = ("lab", "lab_copy")  # the schemas of the lab, which is deployed with accounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The processes with one value of SERVICE: a web server, a worker, beat, a consumer."""

    service: str  # the value of SERVICE
    services: tuple[str, ...]
    prefix: str = ""  # the start of its process names

    @property
    def has_lab(self) -> bool:
        return "accounts" in self.services

    @property
    def schemas(self) -> tuple[str, ...]:
        """The schemas of this deployment; each has a role with its name."""
        return (*self.services, *LAB) if self.has_lab else self.services

    @property
    def web(self) -> str:
        return f"{self.prefix}web"


MONOLITH: Final = "monolith"
DIVIDED: Final = "services"
OWN_SERVERS: Final = "services on own servers"
_DEPLOYMENTS: Final = tuple(
    Deployment(service=name, services=(name,), prefix=f"{name}-") for name in SERVICES
)
SHAPES: Final[Mapping[str, tuple[Deployment, ...]]] = {
    MONOLITH: (Deployment(service="all", services=SERVICES),),
    DIVIDED: _DEPLOYMENTS,
    OWN_SERVERS: _DEPLOYMENTS,
}
# The services whose schema is not on the first server, but on a server of their own.
ON_OWN_SERVER: Final[Mapping[str, tuple[str, ...]]] = {
    MONOLITH: (),
    DIVIDED: (),
    OWN_SERVERS: SERVICES[1:],
}
# The flags of `./dev up`.
FLAGS: Final[Mapping[str, tuple[str, ...]]] = {
    MONOLITH: (),
    DIVIDED: ("--services",),
    OWN_SERVERS: ("--services", "--own-servers"),
}


def deployment_of(service: str) -> Deployment:
    """The deployment with this value of SERVICE. Raises KeyError if there is none."""
    return {d.service: d for deployments in SHAPES.values() for d in deployments}[service]
