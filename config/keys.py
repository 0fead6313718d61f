"""Caches accounts' public keys by `kid`, and reads them again before a new one signs.

A process whose keys come from a URL also saves them in its service's database. A process that
starts while accounts doesn't answer uses that copy.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.request import urlopen

import jwt
from django.conf import settings
from django.db import Error as DatabaseError
from django.utils.module_loading import import_string

log = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 1.0  # between two reads of the keys
FAILURE_PAUSE_SECONDS: Final = 10.0  # after a failure, while some keys are known
FETCH_TIMEOUT_SECONDS: Final = 2.0
UNUSABLE: Final = (OSError, HTTPException, ValueError, TypeError, KeyError, jwt.PyJWTError)

Document = Mapping[str, Any]  # a JWK Set, RFC 7517


class UnknownKey(Exception):
    """No published key has this `kid`."""


class KeysUnavailable(Exception):
    """The key set could not be read, so the token can't be verified."""


class Copy(Protocol):
    """Where the last fetched keys are saved. Both functions may raise Django's database errors."""

    def load(self, source: str) -> Document | None: ...
    def save(self, source: str, document: Document) -> None: ...


class NoCopy:
    """For keys that this process or a file has anyway."""

    def load(self, source: str) -> Document | None:
        return None

    def save(self, source: str, document: Document) -> None:
        """Save nothing."""


class KeySet:
    """Keys by `kid`, read again when they are REFRESH_SECONDS old, by one request at a time, while
    others use the known keys. So new keys are known before they sign, and removed keys end.

    An unknown `kid` also reads the keys again, PAUSE_SECONDS after the last time. After a failure
    the pause is FAILURE_PAUSE_SECONDS, so that few requests wait for a source that doesn't answer.
    While no key is known, a failure reads the copy.
    """

    def __init__(
        self,
        load: Callable[[], Document],
        *,
        source: str = "",
        copy: Copy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._source = source
        self._copy = copy or NoCopy()
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = self._refresh_at = self._reload_at = float("-inf")
        self._failure: Exception | None = None  # of the last attempt
        self._lock = threading.Lock()

    def key(self, kid: str | None) -> jwt.PyJWK:
        """Raises UnknownKey if no key has this `kid`, KeysUnavailable if the keys can't be read, so
        that one may have it."""
        if kid is None:
            raise UnknownKey("the token has no kid")
        if kid not in self._keys:
            self._update(unless_known=kid)
        elif self._clock() >= self._refresh_at:
            self._update(waits=False)
        # Once, because another request may replace the keys at any time.
        if (found := self._keys.get(kid)) is not None:
            return found
        if self._failure:
            raise KeysUnavailable from self._failure
        raise UnknownKey(kid)

    def state(self) -> str:
        """For the readiness probe: `ready`, `known` (accounts doesn't answer, but its keys are
        known) or `no answer` (no token can be verified). Reads the keys if it is time."""
        if self._clock() >= self._refresh_at:
            self._update()
        if not self._failure:
            return "ready"
        return "known" if self._keys else "no answer"

    def is_old(self) -> bool:
        """Whether the keys were read before the last REFRESH_SECONDS, or never."""
        return self._clock() >= self._read_at + REFRESH_SECONDS

    def _update(self, *, waits: bool = True, unless_known: str | None = None) -> None:
        """Read the keys, one thread at a time. Save them without the lock, so that no other request
        waits for a database that doesn't answer."""
        if not self._lock.acquire(blocking=waits):
            return
        try:
            fetched = None if unless_known in self._keys else self._reload()
        finally:
            self._lock.release()
        if fetched:
            self._save(fetched)

    def _reload(self) -> Document | None:
        """Read the keys if it is time. Returns the document if the source has a usable one."""
        if self._clock() < self._reload_at:
            return None
        before = self._failure  # until the end, because other requests look at it
        fetched: Document | None = None
        try:
            document = self._load()
            self._use(document)
            self._failure = None
            self._refresh_at = self._clock() + REFRESH_SECONDS
            fetched = document
        except UNUSABLE as exc:
            self._failure = exc
            if repr(exc) != repr(before):  # a repeated failure is logged once
                log.warning("the key set of accounts can't be read: %r", exc)
            if not self._keys:
                self._read_copy()
        is_waiting = self._failure and self._keys
        self._reload_at = self._clock() + (FAILURE_PAUSE_SECONDS if is_waiting else PAUSE_SECONDS)
        return fetched

    def _use(self, document: Document) -> None:
        self._keys = _parsed(document)
        self._read_at = self._clock()

    def _save(self, document: Document) -> None:
        try:
            self._copy.save(self._source, document)
        except DatabaseError as exc:
            log.warning("the key set of accounts was not saved: %r", exc)

    def _read_copy(self) -> None:
        try:
            if document := self._copy.load(self._source):
                self._use(document)
        except (DatabaseError, *UNUSABLE) as exc:
            log.warning("the saved key set of accounts can't be read: %r", exc)
        if self._keys:
            log.warning("tokens are verified with the saved key set of accounts")


def _parsed(document: Document) -> dict[str, jwt.PyJWK]:
    keys = {key["kid"]: jwt.PyJWK(key, "ES256") for key in document["keys"]}
    if not keys:  # accounts always has a key that signs
        raise ValueError("the key set is empty")
    return keys


def load_from(source: str) -> Document:
    """Read a JWK Set from a file, or fetch it from a URL within FETCH_TIMEOUT_SECONDS."""
    if source.startswith(("http://", "https://")):
        with urlopen(source, timeout=FETCH_TIMEOUT_SECONDS) as response:  # noqa: S310 - checked
            return dict(json.load(response))
    return dict(json.loads(Path(source).read_text(encoding="utf-8")))


@cache
def key_set() -> KeySet:
    """This process's key set: from JWKS if set, else from accounts in this process."""
    if source := settings.JWKS_SOURCE:
        is_url = source.startswith(("http://", "https://"))
        copy = import_string(settings.JWKS_COPY)() if is_url and settings.JWKS_COPY else None
        return KeySet(lambda: load_from(source), source=source, copy=copy)
    return KeySet(import_string(settings.JWKS_PUBLISHER))
