from collections.abc import Iterator

import pytest
from django.http import HttpResponse
from django.middleware.security import SecurityMiddleware
from django.test import RequestFactory, override_settings


@pytest.fixture(autouse=True)
def https() -> Iterator[None]:
    with override_settings(SECURE_SSL_REDIRECT=True):
        yield


def answer(path: str, *, secure: bool = False) -> int:
    middleware = SecurityMiddleware(lambda _: HttpResponse())
    return middleware(RequestFactory().get(path, secure=secure)).status_code


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready", "/.well-known/jwks.json"])
def test_probes_and_published_keys_are_served_over_plain_http(path: str) -> None:
    assert answer(path) == 200


@pytest.mark.parametrize("path", ["/api/users/", "/admin/", "/api/token/", "/.well-known/other"])
def test_other_paths_are_redirected_to_https(path: str) -> None:
    assert answer(path) == 301
    assert answer(path, secure=True) == 200
