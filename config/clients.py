"""Who counts as one client for the limits: an IPv4 address, or a network of IPv6 addresses."""

from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import (
    AnonRateThrottle,
    BaseThrottle,
    ScopedRateThrottle,
    UserRateThrottle,
)

NETWORK_BITS: Final = 64  # of an IPv6 address; a client has all addresses of its network
UNKNOWN: Final = "unknown"  # clients without a readable address share one count


def client_of(request: HttpRequest | Request | None) -> str:
    """The client's IPv4 address or IPv6 network; UNKNOWN without a readable address."""
    try:
        text = BaseThrottle().get_ident(request) if request else None  # type: ignore[arg-type]
        address = ip_address(text or "")
    except ValueError:
        return UNKNOWN
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(IPv6Network((int(address), NETWORK_BITS), strict=False))
    return str(address)


class _ByClient(BaseThrottle):
    def get_ident(self, request: Request) -> str:
        return client_of(request)


class AnonThrottle(_ByClient, AnonRateThrottle):
    """DRF's AnonRateThrottle, by client."""


class UserThrottle(_ByClient, UserRateThrottle):
    """DRF's UserRateThrottle, by client without a user."""


class ScopedThrottle(_ByClient, ScopedRateThrottle):
    """DRF's ScopedRateThrottle, by client without a user."""
