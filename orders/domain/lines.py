"""The lines of an order, and their limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from .errors import InvalidLines

MAX_LINES = 100
MAX_SKU_LENGTH = 64  # characters
MAX_QUANTITY = 1_000_000
MIN_UNIT_PRICE = Decimal("0.01")
MAX_UNIT_PRICE = Decimal("9999999.99")
MAX_TOTAL = Decimal("9999999999.99")
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A quantity of one article at one price.

    The class doesn't validate, so that old events stay readable when a limit changes. `check_lines`
    validates new orders.
    """

    sku: str
    quantity: int
    unit_price: Decimal

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.unit_price


def total_of(lines: Sequence[Line]) -> Decimal:
    """The sum of the lines' amounts, exact, with two decimal places."""
    return sum((line.amount for line in lines), start=Decimal("0.00"))


def check_lines(lines: Sequence[Line]) -> None:
    """Check the limits of an order. Raises InvalidLines; its message names the line."""
    if not 1 <= len(lines) <= MAX_LINES:
        raise InvalidLines(f"An order has 1 to {MAX_LINES} lines, not {len(lines)}.")
    for number, line in enumerate(lines, start=1):
        if problem := _problem_of(line):
            raise InvalidLines(f"Line {number}: {problem}", line=number)
    if (total := total_of(lines)) > MAX_TOTAL:
        raise InvalidLines(f"The total {total} is above the maximum of {MAX_TOTAL}.")


def _problem_of(line: Line) -> str:
    if not is_sku(line.sku):
        return f"sku must be 1 to {MAX_SKU_LENGTH} printable characters."
    if type(line.quantity) is not int or not 1 <= line.quantity <= MAX_QUANTITY:
        return f"quantity must be 1 to {MAX_QUANTITY}."
    if not line.unit_price.is_finite() or not MIN_UNIT_PRICE <= line.unit_price <= MAX_UNIT_PRICE:
        return f"unit_price must be {MIN_UNIT_PRICE} to {MAX_UNIT_PRICE}."
    if line.unit_price != line.unit_price.quantize(CENT):
        return "unit_price must have at most two decimal places."
    return ""


def is_sku(value: object) -> bool:
    """Whether `value` is a valid SKU: printable, so without control characters, NUL (PostgreSQL
    can't store it) and lone surrogates (UTF-8 can't encode them)."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_SKU_LENGTH:
        return False
    return value.isprintable() and value == value.strip()
