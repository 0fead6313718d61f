"""Every log-in of the back office is limited: the admin's, and the browsable API's."""

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest

from config.logins.guard import guard


class WrongPassword(Exception):
    """No active user has this name and password."""


class GuardedBackend(ModelBackend):
    """Raises Throttled if the limits of the name or of the client's address are reached."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        if username is None or password is None:
            return None
        try:
            account = f"staff {username}"
            with guard(request, account=account, wrong=WrongPassword, is_login=True):
                user = super().authenticate(request, username, password, **kwargs)
                if user is None:
                    raise WrongPassword
                return user
        except WrongPassword:
            return None

    # ModelBackend has an asynchronous version of its own.
    aauthenticate: Any = sync_to_async(authenticate)
