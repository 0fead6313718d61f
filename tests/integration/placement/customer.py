from collections.abc import Callable
from typing import Any

from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from placement.replicas.tokens import HEADER

PASSWORD = "correct horse battery"


class Customer:
    """A registered user and its API client, which keeps cookies as a browser does."""

    def __init__(self, client: APIClient, as_user: Callable[..., APIClient]) -> None:
        email = f"{uuid7()}@example.com"
        body = {"name": "0", "email": email, "password": PASSWORD}
        answer = client.post("/api/users/", body)
        assert answer.status_code == 201, answer.content
        self.id, self.version, self.token = answer.json()["id"], 1, answer[HEADER]
        self.url = f"/api/users/{self.id}/"
        self.api = as_user(self.id)
        self.api.cookies = client.cookies

    def rename(self, name: str) -> Any:
        answer = self.api.patch(self.url, {"name": name}, headers={"If-Match": f'"{self.version}"'})
        assert answer.status_code == 200, answer.content
        self.version, self.token = answer.json()["version"], answer[HEADER]
        return answer

    def listed(self, **headers: str) -> str:
        """The name that the list of users shows."""
        answer = self.api.get("/api/users/", headers=headers)
        assert answer.status_code == 200, answer.content
        return str(answer.json()["results"][0]["name"])

    def forget(self) -> None:
        """Drop the token, so that later reads send no token."""
        self.api.cookies.clear()
