"""Rules of the API that JSON Schema can't state, for schemathesis. Named by schemathesis.toml."""

from decimal import Decimal, InvalidOperation
from typing import Any

import schemathesis

MAX_TOTAL = Decimal("9999999999.99")


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Leave out orders above the largest total: their lines are valid one by one."""
    lines = body.get("lines") if isinstance(body, dict) else None
    try:
        total = sum(line["quantity"] * Decimal(str(line["unit_price"])) for line in lines or ())
        return bool(total <= MAX_TOTAL)
    except (TypeError, KeyError, InvalidOperation):
        return True


@schemathesis.hook
def before_call(context: Any, case: Any, **_: Any) -> None:
    """Make a password of valid length uncommon and not a number."""
    body = case.body if isinstance(case.body, dict) else {}
    password = body.get("password")
    if isinstance(password, str) and 10 <= len(password) <= 128:
        body["password"] = f"{password} in Bern at 4"[-128:]
