"""What orders signs is what accounts believes, on every route that it asks; and no other."""

import re
from inspect import getsource

import pytest
from django.urls import resolve
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from accounts.api.internal import InternalView
from accounts.api.peers import AUDIENCE, PeerAuthentication
from orders import peer, reconcile

PATHS = sorted(set(re.findall(r"/internal/[a-z/-]+", getsource(reconcile))))
BODY = b'{"ids": []}'


def asked(path: str, *, body: bytes = BODY, signed_for: str = "") -> Request:
    headers = peer._headers(AUDIENCE, signed_for or path, BODY)
    return Request(
        APIRequestFactory().post(
            path,
            body,
            content_type=headers["Content-Type"],
            headers={"Authorization": headers["Authorization"]},
        )
    )


def test_orders_asks_something() -> None:
    assert len(PATHS) == 5


@pytest.mark.parametrize("path", PATHS)
def test_what_orders_asks_is_a_route_of_accounts_that_believes_it(path: str) -> None:
    assert issubclass(resolve(path).func.cls, InternalView)
    found = PeerAuthentication().authenticate(asked(path))
    assert found is not None
    assert str(found[0]) == "service orders"


def test_a_token_of_another_body_or_path_is_not_believed() -> None:
    for request in (asked(PATHS[0], body=b"{}"), asked(PATHS[0], signed_for=PATHS[1])):
        with pytest.raises(AuthenticationFailed):
            PeerAuthentication().authenticate(request)
