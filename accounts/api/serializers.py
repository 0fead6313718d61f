"""The formats of accounts' HTTP bodies."""

from typing import Any

from rest_framework import serializers

from ..domain.commands import DEFAULT_CREDIT_LIMIT
from .fields import (
    AddressField,
    AmountField,
    CurrentPasswordField,
    NameField,
    NewPasswordField,
    PasswordField,
    TextField,
    TimestampField,
    VersionField,
    YesNoField,
)


class UserSerializer(serializers.Serializer[Any]):
    """A user in a response, or a user's changes in a request. For clients that can't send If-Match,
    `version` is the version that a change is based on (hidden in the browsable API's form)."""

    id = serializers.UUIDField(read_only=True)
    name = NameField(max_length=200)
    email = AddressField(max_length=254)
    password = NewPasswordField(required=False)
    current_password = CurrentPasswordField(required=False)
    credit_limit = AmountField(required=False, help_text="Only staff may set it.")
    credit_reserved = AmountField(read_only=True)
    is_active = YesNoField(required=False, help_text="Only staff may set it.")
    version = VersionField(required=False, label="", style={"input_type": "hidden"})
    created_at = TimestampField(read_only=True)
    updated_at = TimestampField(read_only=True)


class RegistrationSerializer(UserSerializer):
    """A new user: the request and the response."""

    password = NewPasswordField()
    current_password = None  # type: ignore[assignment]
    credit_limit = AmountField(
        required=False, help_text=f"Only staff may set it (default: {DEFAULT_CREDIT_LIMIT})."
    )
    is_active = YesNoField(read_only=True)
    version = VersionField(read_only=True)


class HistorySerializer(serializers.Serializer[Any]):
    """One version of a user: the event that led to it, and the user after that event."""

    version = serializers.IntegerField(read_only=True)
    event = serializers.CharField(read_only=True)
    data = serializers.DictField(read_only=True)  # type: ignore[assignment]
    recorded_at = TimestampField(read_only=True)


class LoginSerializer(serializers.Serializer[Any]):
    email = TextField(max_length=254)
    password = PasswordField()


class RefreshSerializer(serializers.Serializer[Any]):
    refresh = TextField(max_length=4096)


class LogoutSerializer(RefreshSerializer):
    everywhere = YesNoField(default=False, help_text="End all log-ins of the user.")


class TokensSerializer(serializers.Serializer[Any]):
    access = serializers.CharField(read_only=True)
    refresh = serializers.CharField(read_only=True)
