"""Checks and hashes passwords. Both are slow by design: callers first do all that is cheap, and
hold no row lock."""

from django.contrib.auth.hashers import (
    check_password,
    get_hasher,
    identify_hasher,
    make_password,
)
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from .domain.errors import WeakPassword
from .domain.user import stored_password
from .models import User


def is_correct(password: str, encoded: str | None) -> bool:
    """Whether the password has this hash. Without a hash, because the user is unknown, the answer
    takes as long as with a hash that isn't outdated."""
    if encoded is None:
        encoded = make_password(None)  # the check of an unusable hash also computes one
    # A release before 0.3 hashed the password as it was sent.
    forms = dict.fromkeys((stored_password(password), password))
    return any(check_password(form, encoded) for form in forms)


def require_strong(password: str, *, email: str) -> None:
    """Raises WeakPassword. It computes no hash."""
    try:
        validate_password(stored_password(password), user=User(email=email))  # type: ignore[arg-type]
    except ValidationError as exc:
        raise WeakPassword(exc.messages) from exc


def hashed(password: str) -> str:
    return make_password(stored_password(password))


def is_outdated(encoded: str) -> bool:
    """Whether `hashed` uses another algorithm today, or other iterations."""
    preferred = get_hasher()
    return identify_hasher(encoded).algorithm != preferred.algorithm or preferred.must_update(
        encoded
    )
