"""The notation of amounts and times in stored events, public events and HTTP responses.

An amount is a string with two decimal places ("12.30"). A time is ISO 8601 in UTC with microseconds
and "Z". JSON represents both without loss.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal

AMOUNT = re.compile(r"-?[0-9]{1,10}\.[0-9]{2}")


def write_amount(amount: Decimal) -> str:
    """Write `amount` with two decimal places. Raises ValueError for a fraction of a cent."""
    text = f"{amount:.2f}"
    if Decimal(text) != amount:
        raise ValueError(f"{amount} has more than two decimal places")
    return text


def read_amount(text: object) -> Decimal:
    """The inverse of `write_amount`. Raises ValueError for any other text."""
    if not isinstance(text, str) or not AMOUNT.fullmatch(text):
        raise ValueError(f"{text!r} is not an amount with two decimal places")
    return Decimal(text)


def write_time(time: datetime) -> str:
    """Write an aware `time` in UTC. Raises ValueError for a naive time."""
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def read_time(text: object) -> datetime:
    """The inverse of `write_time`. Raises ValueError for any other text."""
    if not isinstance(text, str) or not text.endswith("Z"):
        raise ValueError(f"{text!r} is not a time in UTC")
    return datetime.fromisoformat(text)
