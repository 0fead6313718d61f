"""accounts accepts a token that orders signs, only for the route and body that were signed."""

import re
from inspect import getsource

import pytest
from django.urls import resolve
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from accounts.api.internal import InternalView
from accounts.api.peers import AUDIENCE, PeerAuthentication
from orders import peer, reconcile, reservations, storyline

SOURCE = "".join(map(getsource, (reconcile, reservations, storyline)))
PATHS = sorted(set(re.findall(r"/internal/[a-z/-]+", SOURCE)))
BODY = b'{"ids": []}'


def signed_request(path: str, *, body: bytes = BODY, signed_for: str = "") -> Request:
    headers = peer._headers(AUDIENCE, signed_for or path, BODY)
    return Request(
        APIRequestFactory().post(
            path,
            body,
            content_type=headers["Content-Type"],
            headers={"Authorization": headers["Authorization"]},
        )
    )


def test_orders_calls_eight_internal_routes() -> None:
    assert len(PATHS) == 8


@pytest.mark.parametrize("path", PATHS)
def test_accounts_accepts_the_token_of_orders_on_every_route(path: str) -> None:
    assert issubclass(resolve(path).func.cls, InternalView)
    found = PeerAuthentication().authenticate(signed_request(path))
    assert found is not None
    assert str(found[0]) == "service orders"


def test_a_token_for_another_body_or_path_is_refused() -> None:
    for request in (
        signed_request(PATHS[0], body=b"{}"),
        signed_request(PATHS[0], signed_for=PATHS[1]),
    ):
        with pytest.raises(AuthenticationFailed):
            PeerAuthentication().authenticate(request)
