"""A captured request between services, sent again or changed."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.test import RequestFactory
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from pages.flow import peers
from tests.support.surroundings import SERVICES

Accepts = Callable[[HttpRequest], bool]


def accounts_accepts(request: HttpRequest) -> bool:
    from accounts.api.peers import PeerAuthentication

    try:
        return PeerAuthentication().authenticate(Request(request)) is not None
    except AuthenticationFailed:
        return False


DOORS = [
    pytest.param(
        "accounts",
        "/internal/users/page/",
        accounts_accepts,
        marks=pytest.mark.shape("accounts"),
        id="a route of accounts",
    ),
    pytest.param(SERVICES[0], "/internal/flow/status/", peers.is_signed, id="the status"),
]


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines that both doors have logged."""
    return [each.getMessage() for each in caplog.records if each.name.endswith(".peers")]


def request(url: str, headers: Mapping[str, str], body: bytes = b"{}") -> HttpRequest:
    sent: Any = {"content_type": "application/json", "headers": headers}
    return RequestFactory().post(url, body, **sent)


@pytest.mark.parametrize(("service", "path", "accepts"), DOORS)
def test_a_request_of_a_service_is_accepted_once(
    service: str, path: str, accepts: Accepts, caplog: pytest.LogCaptureFixture
) -> None:
    captured = peers._headers(service, path, b"{}")
    assert accepts(request(path, captured))
    assert not accepts(request(path, captured))
    assert accepts(request(path, peers._headers(service, path, b"{}")))
    [line] = refusals(caplog)
    assert path in line
    assert line.endswith("was used before.")


@pytest.mark.parametrize(("service", "path", "accepts"), DOORS)
def test_a_refused_token_of_a_service_is_logged_with_the_reason_and_not_itself(
    service: str, path: str, accepts: Accepts, caplog: pytest.LogCaptureFixture
) -> None:
    token, other = (
        peers._headers(service, path, b"{}")["Authorization"].removeprefix("Peer ") for _ in "12"
    )
    claims, parts = token.split(".")[1], {*token.split(".")[1:], *other.split(".")[1:]}
    tried = {
        "Signature verification failed": f"{token.rpartition('.')[0]}.{other.split('.')[2]}",
        "is for another request, or is valid for too long.": token,
        "Not enough segments": claims,
    }
    for sent in tried.values():
        assert not accepts(request(f"{path}?changed=1", {"Authorization": f"Peer {sent}"}))
    assert not accepts(request(path, {}))  # no token, no line
    lines = refusals(caplog)
    assert len(lines) == len(tried)
    for line, reason in zip(lines, tried, strict=True):
        assert f"for {path} is refused" in line
        assert line.endswith(reason)
        assert not any(part in line for part in parts)


@pytest.mark.parametrize(("service", "path", "accepts"), DOORS)
def test_a_captured_request_is_refused_with_another_query_path_or_body(
    service: str, path: str, accepts: Accepts
) -> None:
    captured = peers._headers(service, path, b"{}")
    assert not accepts(request(f"{path}?rows=1", captured))
    assert not accepts(request(f"{path}x/", captured))
    assert not accepts(request(path, captured, b'{"rows": 1}'))
    assert accepts(request(path, captured))  # a refused request doesn't use the token up


@pytest.mark.parametrize(("service", "path", "accepts"), DOORS)
def test_the_clocks_of_two_services_may_differ_by_seconds(
    service: str, path: str, accepts: Accepts
) -> None:
    now, leeway = time.time(), settings.JWT_LEEWAY_SECONDS

    def signed(*, seconds: float) -> Mapping[str, str]:
        """By a service whose clock differs."""
        with patch.object(peers.time, "time", return_value=now + seconds):
            return peers._headers(service, path, b"{}")

    with patch.object(cache, "add", wraps=cache.add) as add:
        assert accepts(request(path, signed(seconds=leeway / 2)))
        assert accepts(request(path, signed(seconds=-peers.TOKEN_SECONDS - leeway / 2)))
    # A token that is used early is known until it isn't valid any more.
    assert add.call_args.kwargs["timeout"] >= peers.TOKEN_SECONDS + 2 * leeway
    assert not accepts(request(path, signed(seconds=3 * leeway)))
    assert not accepts(request(path, signed(seconds=-peers.TOKEN_SECONDS - 3 * leeway)))


@pytest.mark.parametrize(("service", "path", "accepts"), DOORS)
def test_a_token_that_is_valid_for_longer_is_refused(
    service: str, path: str, accepts: Accepts
) -> None:
    """The cache forgets a used token after the longest time that a token may be valid."""
    with patch.object(peers, "TOKEN_SECONDS", 31):  # both accept 30
        long_lived = peers._headers(service, path, b"{}")
    assert not accepts(request(path, long_lived))
    assert accepts(request(path, peers._headers(service, path, b"{}")))
