"""Headers that tell browsers what a page may do, on every response."""

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware

# No page uses these features.
PERMISSIONS_POLICY: Final = ", ".join(
    f"{feature}=()"
    for feature in (
        *("accelerometer", "camera", "display-capture", "geolocation", "gyroscope"),
        *("magnetometer", "microphone", "midi", "payment", "usb"),
    )
)


def security_headers(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Send the headers of Django's own middleware with refusals too: a middleware that refuses a
    request must read its body before Django's middleware may redirect it."""
    security, frames = SecurityMiddleware(get_response), XFrameOptionsMiddleware(get_response)

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        security.process_response(request, response)
        frames.process_response(request, response)
        return response

    return middleware
