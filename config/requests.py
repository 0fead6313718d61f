"""Request and handler classes for WSGI and ASGI: UTF-8, bounded bodies, closed connections."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from typing import IO, Any, BinaryIO, Final, cast

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import LimitedStream, WSGIHandler, WSGIRequest
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.http import parse_header_parameters

READ_SECONDS: Final = 20.0  # for a whole request


class _Utf8(HttpRequest):
    """Ignores `charset` in Content-Type.

    Django would decode a request with any codec that `charset` names. The codecs zlib and IDNA
    raise errors that Django doesn't handle, and punycode is slow.
    """

    content_type: str | None
    content_params: dict[str, str] | None

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        content_type = meta.get("CONTENT_TYPE", "")
        self.content_type, self.content_params = parse_header_parameters(content_type)


class Utf8WSGIRequest(_Utf8, WSGIRequest):
    """Reads a chunked body to its end, or just past the largest size that is accepted.

    Django reads as much as Content-Length says: here, nothing. Without
    `wsgi.input_terminated` the server doesn't mark the end of a chunked body.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ)
        if "HTTP_TRANSFER_ENCODING" in environ and environ.get("wsgi.input_terminated"):
            most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1  # the last byte shows a larger body
            self._stream = cast(BinaryIO, LimitedStream(environ["wsgi.input"], most))


class Utf8ASGIRequest(_Utf8, ASGIRequest):
    pass


class Utf8WSGIHandler(WSGIHandler):
    request_class = Utf8WSGIRequest

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> HttpResponseBase:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            # PEP 3333 leaves the connection to the server. gunicorn drops an application's header
            # Connection, but its response has a method that sends the header and closes.
            force_close = getattr(getattr(start_response, "__self__", None), "force_close", None)
            if force_close and ("Connection", "close") in headers:
                force_close()
            return start_response(status, headers, *exc_info)

        return super().__call__(environ, start)


class Utf8ASGIHandler(ASGIHandler):
    """Keeps a body in memory up to the largest size that is accepted, and one byte more. Django
    would write a body of any size to a file, before any middleware can refuse it."""

    request_class = Utf8ASGIRequest

    async def read_body(self, receive: Callable[[], Awaitable[Mapping[str, Any]]]) -> IO[bytes]:
        body, most, has_more = bytearray(), settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1, True
        try:
            async with asyncio.timeout(READ_SECONDS):
                while has_more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestAborted
                    body += message.get("body", b"")[: most - len(body)]
                    has_more = message.get("more_body", False)
        except TimeoutError as exc:
            raise RequestAborted from exc
        return BytesIO(body)
