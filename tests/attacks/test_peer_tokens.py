"""A captured request between services, sent again or changed."""

import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
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


def request(url: str, headers: Mapping[str, str], body: bytes = b"{}") -> HttpRequest:
    sent: Any = {"content_type": "application/json", "headers": headers}
    return RequestFactory().post(url, body, **sent)


@pytest.mark.parametrize(("service", "path", "accepts"), DOORS)
def test_a_request_of_a_service_is_accepted_once(service: str, path: str, accepts: Accepts) -> None:
    captured = peers._headers(service, path, b"{}")
    assert accepts(request(path, captured))
    assert not accepts(request(path, captured))
    assert accepts(request(path, peers._headers(service, path, b"{}")))


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
def test_the_clock_of_a_service_may_differ_by_seconds(
    service: str, path: str, accepts: Accepts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accepts_signed(*, seconds: int) -> bool:
        """Whether a request is accepted that a clock signs which is ahead by so many seconds."""
        clock = SimpleNamespace(time=lambda: time.time() + seconds)
        monkeypatch.setattr(peers, "time", clock)
        return accepts(request(path, peers._headers(service, path, b"{}")))

    after = -peers.TOKEN_SECONDS
    assert [accepts_signed(seconds=n) for n in (5, after - 5)] == [True, True]
    assert [accepts_signed(seconds=n) for n in (20, after - 20)] == [False, False]
