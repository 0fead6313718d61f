"""Bodies that would fill the disk or the memory, sent without credentials."""

import asyncio
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, RequestFactory

from config.requests import Utf8ASGIHandler, Utf8WSGIHandler
from tests.unit.config.test_middleware import Response, _no_database, chunked

__all__ = ["_no_database"]  # a fixture of every test

MEBIBYTE = 2**20


@pytest.mark.shape("accounts")
@pytest.mark.parametrize(
    ("path", "slug"), [("/api/token/", "parse-error"), ("/admin/login/", "bad-request")]
)
def test_a_form_with_a_file_is_refused_before_the_file_is_stored(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, slug: str
) -> None:
    """A temporary file would be gone after the response. Here, none can be made."""
    missing = str(tmp_path / "missing")
    settings.FILE_UPLOAD_TEMP_DIR, settings.FILE_UPLOAD_MAX_MEMORY_SIZE = missing, 10
    monkeypatch.setattr(tempfile, "tempdir", missing)
    file = SimpleUploadedFile("x", b"x" * MEBIBYTE)
    response = Client().post(path, {"file": file}, headers={"accept": "application/json"})
    assert response.status_code == 400
    assert response.json()["type"] == f"/problems/{slug}"


class Endless(BytesIO):
    """A body of any length, which counts the bytes that were read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size > 0, "the whole body would be read into the memory"
        self.taken += size
        return b"x" * size


def test_a_body_of_200_mebibytes_is_refused_and_hardly_read() -> None:
    request = RequestFactory().post("/api/token/", content_type="multipart/form-data; boundary=x")
    environ = {**request.environ, "CONTENT_LENGTH": str(200 * MEBIBYTE), "wsgi.input": Endless()}
    response = Response()
    Utf8WSGIHandler()(environ, response.start_response)
    assert (response.status, environ["wsgi.input"].taken) == (413, 0)

    endless = Endless()
    response, _ = chunked(endless)
    assert (response.status, response.closes) == (413, True)
    assert endless.taken < 20 * MEBIBYTE


@async_to_sync
async def received(pieces: int) -> Any:
    """The body that the ASGI handler keeps of so many pieces of a mebibyte."""
    sent = iter(range(1, pieces + 1))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * MEBIBYTE, "more_body": next(sent) < pieces}

    body = await Utf8ASGIHandler().read_body(receive)
    assert next(sent, None) is None, "a part of the body is left"
    return body


def test_over_asgi_a_large_body_stays_in_memory_up_to_the_limit() -> None:
    body = received(20)
    assert isinstance(body, BytesIO)
    assert len(body.getvalue()) == settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1


@async_to_sync
async def half_a_body() -> None:
    """Read a body whose client sends one piece, and then nothing."""
    sent = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> dict[str, Any]:
        while not sent:
            await asyncio.Event().wait()
        return sent.pop()

    await asyncio.wait_for(Utf8ASGIHandler().read_body(receive), 5)


def test_over_asgi_a_body_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.requests.READ_SECONDS", 0.05)
    with pytest.raises(RequestAborted):
        half_a_body()
