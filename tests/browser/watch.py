"""Records faults that no page may have, in every page of a browser context."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, WebError

HERE = "127.0.0.1"
OF_ANOTHER_HOST = {"http", "https", "ws", "wss"}


@dataclass  # without slots, because playwright adds attributes
class Watch:
    """Errors in the console, also violations of the policy, and requests to another host."""

    faults: list[str] = field(default_factory=list)
    _expected: list[re.Pattern[str]] = field(default_factory=list)

    def attach(self, context: BrowserContext) -> None:
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)
        context.on("request", self._on_request)

    @contextmanager
    def expecting(self, pattern: str) -> Iterator[None]:
        """Within the block, errors with this text are no fault."""
        self._expected.append(re.compile(pattern))
        yield
        self._expected.pop()

    def _on_console(self, message: ConsoleMessage) -> None:
        is_expected = any(each.search(message.text) for each in self._expected)
        if message.type == "error" and not is_expected:
            where = message.location.get("url", "")
            self.faults.append(f"error in the console: {message.text} ({where})")

    def _on_error(self, error: WebError) -> None:
        self.faults.append(f"exception: {error.error}")

    def _on_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in OF_ANOTHER_HOST and address.hostname != HERE:
            self.faults.append(f"request to another host: {request.url}")
