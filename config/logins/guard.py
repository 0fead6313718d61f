"""Limits guesses of passwords: by account, by the client's address, and by both together.

An attempt is counted before its password is hashed, so concurrent guesses are counted too and a
refused guess costs no hash. A correct password is taken off the counts again. It doesn't reset
them: else an attacker could log in with an account of their own between guesses.

A client that has logged in to the account before is limited only by the count of both together. So
wrong guesses of others don't keep an owner out.

The counts are in PostgreSQL and not in the cache, because they must survive the loss of a cache
node and hold for all processes (docs/adr/0020-failed-log-ins.md).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connections, router, transaction
from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from rest_framework.exceptions import Throttled

from config.clients import client_of
from config.logins.models import Attempts

log = logging.getLogger(__name__)

PERIOD_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BOTH: Final = "account and address"
KNOWN_FOR: Final = timedelta(days=30)  # after the last log-in to the account at the address

# Rows are locked in the order of their keys, here and in GIVE_BACK, so that no two transactions
# wait for each other.
COUNT: Final = """
INSERT INTO logins_attempts AS counted (key, count, ends_at)
SELECT key, 1, now() + period FROM unnest(%s::text[], %s::interval[]) AS wanted (key, period)
 ORDER BY key
ON CONFLICT (key) DO UPDATE
   SET count = CASE WHEN counted.ends_at > now() THEN counted.count + 1 ELSE 1 END,
       ends_at = CASE WHEN counted.ends_at > now() THEN counted.ends_at ELSE excluded.ends_at END
RETURNING key, count, ends_at - now()
"""
GIVE_BACK: Final = """
WITH locked AS (SELECT key FROM logins_attempts WHERE key = ANY(%s) ORDER BY key FOR UPDATE)
UPDATE logins_attempts AS counted SET count = counted.count - 1
  FROM locked WHERE counted.key = locked.key AND counted.count > 0
"""
REMEMBER: Final = """
INSERT INTO logins_attempts (key, count, ends_at) VALUES (%s, 0, now() + %s)
ON CONFLICT (key) DO UPDATE SET ends_at = excluded.ends_at
"""
IS_KNOWN: Final = "SELECT 1 FROM logins_attempts WHERE key = %s AND ends_at > now()"
DELETE_OLD: Final = """
DELETE FROM logins_attempts WHERE key IN
    (SELECT key FROM logins_attempts WHERE ends_at < now() LIMIT 100 FOR UPDATE SKIP LOCKED)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    name: str
    key: str
    most: int  # failed attempts in a period
    period: timedelta


@contextmanager
def guard(
    request: HttpRequest | None, *, account: str, wrong: type[Exception], is_login: bool = False
) -> Iterator[None]:
    """Count an attempt on this account; it stays counted only if the block raises `wrong`.

    `is_login`: if the block succeeds, the client has logged in to the account.

    Raises Throttled, without running the block, if one of the limits is reached.
    """
    client = client_of(request)
    limits = _limits(client=client, account=account)
    known = _key("known", f"{account} {client}")
    _count(limits, known)
    try:
        yield
    except wrong:
        raise
    except Exception:
        _give_back(limits)
        raise
    _give_back(limits)
    if is_login:
        _run(REMEMBER, known, KNOWN_FOR)


def _limits(*, client: str, account: str) -> list[Limit]:
    subjects = {"account": account, "address": client, BOTH: f"{account} {client}"}
    return [_limit(name, subject) for name, subject in subjects.items()]


def _limit(name: str, subject: str) -> Limit:
    most, _, period = settings.LOGIN_RATES[name].partition("/")
    return Limit(
        name=name,
        key=_key(name, subject),
        most=int(most),
        period=timedelta(seconds=PERIOD_SECONDS[period[0]]),
    )


def _key(kind: str, subject: str) -> str:
    return salted_hmac(f"{__name__} {kind}", subject, algorithm="sha256").hexdigest()


def _count(limits: Sequence[Limit], known: str) -> None:
    """Raises Throttled, and then counts nothing."""
    alias = router.db_for_write(Attempts)
    keys, periods = [one.key for one in limits], [one.period for one in limits]
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(COUNT, [keys, periods])
        counted = {key: (count, left) for key, count, left in cursor.fetchall()}
        for limit in limits:
            count, left = counted[limit.key]
            if count > limit.most and (limit.name == BOTH or not _is_known(cursor, known)):
                wait = max(1, round(left.total_seconds()))
                # The mark is the same for each refusal of the account, and doesn't name it.
                log.warning(
                    "log-ins are refused for %d s: %d have failed for one %s; the account has"
                    " the mark %s",
                    *(wait, limit.most, limit.name, limits[0].key[:8]),
                )
                raise Throttled(wait=wait)
    if any(count == 1 for count, _ in counted.values()):
        _run(DELETE_OLD)


def _is_known(cursor: Any, known: str) -> bool:
    cursor.execute(IS_KNOWN, [known])
    return cursor.fetchone() is not None


def _give_back(limits: Sequence[Limit]) -> None:
    _run(GIVE_BACK, [one.key for one in limits])


def _run(statement: str, *params: Any) -> None:
    with connections[router.db_for_write(Attempts)].cursor() as cursor:
        cursor.execute(statement, params or None)
