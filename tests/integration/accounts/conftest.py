from collections.abc import Callable
from decimal import Decimal
from itertools import count
from typing import Any, TypeAlias

import pytest
from rest_framework.test import APIClient

from accounts.domain.commands import RegisterUser
from accounts.domain.state import UserState
from accounts.handlers import register_user

PASSWORD = "correct horse battery"

Register: TypeAlias = Callable[..., UserState]


@pytest.fixture
def register() -> Register:
    """Registers users through the handler, each with its own email."""
    numbers = count(1)

    def make(**given: Any) -> UserState:
        number = next(numbers)
        fields = {
            "name": f"User {number}",
            "email": f"user{number}@example.com",
            "password": PASSWORD,
            "credit_limit": Decimal("1000.00"),
        }
        return register_user(RegisterUser(**fields | given))

    return make


@pytest.fixture
def ada(register: Register) -> UserState:
    return register(name="Ada", email="Ada@example.com")


@pytest.fixture
def ada_api(ada: UserState, as_user: Callable[..., APIClient]) -> APIClient:
    return as_user(ada.id)


@pytest.fixture
def staff_api(register: Register, as_user: Callable[..., APIClient]) -> APIClient:
    staff = register(name="Grace", email="grace@example.com", is_staff=True)
    return as_user(staff.id, staff=True)
