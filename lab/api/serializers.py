"""The bodies of requests and responses."""

from typing import Any, Final

from rest_framework import serializers

ID: Final = r"[A-Za-z0-9._-]{1,64}"


class TextField(serializers.CharField):
    """Text only: DRF's field also accepts a number."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class UserSerializer(serializers.Serializer[Any]):
    id = serializers.RegexField(
        rf"^{ID}\Z", required=False, allow_blank=True, help_text="If it is empty: a UUID."
    )
    name = TextField(max_length=200)
    version = serializers.IntegerField(read_only=True)


class RenameSerializer(UserSerializer):
    id = serializers.CharField(read_only=True)  # type: ignore[assignment] # it is in the address
