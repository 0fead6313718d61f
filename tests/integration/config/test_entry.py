"""Requests with unusual charsets and versions in their headers or query."""

import io
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from django.test import Client

from config.wsgi import application

CHARSETS = ["zlib", "idna", "punycode", "rot13", "undefined", "utf-16", "latin-1", "nonsense"]
BODIES = {
    "application/json": b'{"email": "\xff"}',
    "application/x-www-form-urlencoded": b"email=%ff",
    "multipart/form-data; boundary=x": (
        b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\n\xff\r\n--x--\r\n'
    ),
}


def status_of(**environ: Any) -> int:
    """Send a request through the complete WSGI entry point. Returns the status."""
    setup_testing_defaults(environ)
    seen: list[str] = []
    body = application(environ | {"HTTP_HOST": "localhost"}, lambda status, *_: seen.append(status))
    body.close()
    return int(seen[0].split()[0])


@pytest.mark.shape("accounts")  # /api/token/ reads the body without a token
@pytest.mark.django_db
@pytest.mark.parametrize("charset", CHARSETS)
def test_no_charset_causes_a_server_error(charset: str) -> None:
    named = f"text/plain; charset={charset}"
    assert status_of(PATH_INFO="/api/", QUERY_STRING="a=%ff", CONTENT_TYPE=named) == 200
    for content_type, body in BODIES.items():
        status = status_of(
            REQUEST_METHOD="POST",
            PATH_INFO="/api/token/",
            CONTENT_TYPE=f"{content_type}; charset={charset}",
            CONTENT_LENGTH=str(len(body)),
            **{"wsgi.input": io.BytesIO(body)},
        )
        assert status == 400, content_type


def test_a_requested_version_does_not_change_the_schema(client: Client) -> None:
    plain = client.get("/api/schema/")
    for version in ("2", "x\r\nSet-Cookie: a=b", "\0"):
        response = client.get("/api/schema/", {"version": version})
        assert response.status_code == 200
        assert response["Content-Disposition"] == plain["Content-Disposition"]
