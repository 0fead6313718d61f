"""Request classes for WSGI and ASGI that always decode a request as UTF-8."""

from typing import Any

from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest
from django.utils.http import parse_header_parameters


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
    pass


class Utf8ASGIRequest(_Utf8, ASGIRequest):
    pass


class Utf8WSGIHandler(WSGIHandler):
    request_class = Utf8WSGIRequest


class Utf8ASGIHandler(ASGIHandler):
    request_class = Utf8ASGIRequest
