"""The application as a separate web process, and HTTP clients that write and read there."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from uuid_utils.compat import uuid7

from placement.replicas.tokens import HEADER
from tests.integration.placement.customer import PASSWORD
from tests.support.embedded import access_token
from tests.support.web import web_server


@contextmanager
def web_process(environment: Mapping[str, str]) -> Iterator[str]:
    """Run the application as in production, but with one process; yields the URL."""
    options = (
        *("--threads", "4", "--log-level", "warning", "--access-logfile", os.devnull),
        # A request fails if the server closes the idle connection at the same moment.
        *("--keep-alive", "300"),
    )
    with web_server(environment, *options) as url:
        yield url


@dataclass
class Outcome:
    """The observations of the clients in a run, and the faults of the standby in this run."""

    pairs: int = 0
    stale: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    kills: int = 0
    pauses: int = 0
    served_share: float = 0.0  # the share of reads with a token that a replica served
    token_ms: float = 0.0  # the time that a token adds to the p50


class Client:
    """A user that changes its name and reads the list; the token is only in the header."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=20)
        body = {"name": "0", "email": f"{uuid7()}@example.com", "password": PASSWORD}
        user = self.http.post("/api/users/", json=body)
        assert user.status_code == 201, user.text
        self.id, self.version, self.token = user.json()["id"], 1, ""
        self.path = f"/api/users/{self.id}/"

    def log_in(self) -> None:
        """Renew the access token, which expires before a run of thousands of pairs ends."""
        self.http.headers["Authorization"] = f"Bearer {access_token(self.id)}"

    def pair(self, name: str, outcome: Outcome) -> None:
        """Write the name, then read the list with the token of the write."""
        self.log_in()
        written = self.http.patch(
            self.path,
            json={"name": name},
            headers={"If-Match": f'"{self.version}"', HEADER: self.token},
        )
        self.http.cookies.clear()
        if written.status_code != 200:
            outcome.errors.append(f"write: {written.status_code} {written.text[:200]}")
            return
        self.version, self.token = written.json()["version"], written.headers[HEADER]
        read = self.read(self.token)
        if read.status_code != 200:
            outcome.errors.append(f"read: {read.status_code} {read.text[:200]}")
        elif (seen := read.json()["results"][0]["name"]) != name:
            outcome.stale.append(f"{seen} instead of {name}")
        outcome.pairs += 1

    def read(self, token: str = "") -> httpx.Response:
        return self.http.get("/api/users/", headers={HEADER: token} if token else {})
