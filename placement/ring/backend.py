"""Implements Django's cache API on a ring. `placement.ring.cache` configures the ring."""

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from operator import index
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.http import HttpResponse
from django.utils.safestring import SafeString

from . import arrangement
from .arrangement import Place, Placed
from .errors import CounterOverflow, NodeFailed, NotACounter, RingUnavailable, ValueTooLarge
from .leases import Reader
from .process import Ring
from .values import decode

log = logging.getLogger(__name__)

COUNTERS: Final = range(-(2**63), 2**63)  # the integers that a node can increment


class RingBackend(BaseCache):
    """Implements Django's whole cache API and `invalidate` on `self.ring`."""

    ring: Ring
    negative_ms: int

    # -- versions and leases -------------------------------------------------------------

    def get_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """Return the value. On a miss, store and return `default`, or its result if it is callable.

        Of all concurrent readers of a key, in all processes, only one calls `default`.
        """
        key = self.make_and_validate_key(key, version)
        load = default if callable(default) else lambda: default
        if (life_ms := self._life_ms(timeout)) == 0:
            entry = self.ring.decoded(self._stored(key))
            return load() if entry is None else entry.value
        return Reader(self.ring, key, load, life_ms=life_ms, negative_ms=self.negative_ms).read()

    def invalidate(self, key: Any, floor: int, version: int | None = None) -> bool:
        """Ensure that no process serves or stores a version below `floor`.

        False if the ring can't guarantee this. Raises no error of the ring. A node that doesn't
        confirm the invalidation is ejected, so that its data is never served.
        """
        return not self.invalidate_many({key: floor}, version)

    def invalidate_many(self, floors: Mapping[Any, int], version: int | None = None) -> list[Any]:
        """Invalidate many keys; returns the keys whose invalidation the ring can't guarantee."""
        names = {self.make_and_validate_key(key, version): key for key in floors}
        for name in names:
            self.ring.gutter.delete(name)
        wanted = {name: floors[key] for name, key in names.items()}
        placed, complete = self.ring.places(names)
        failed = set() if complete else set(names)
        for server, group in _by_node(placed).items():
            try:
                with self.ring.node(server, at_once=True) as node:
                    node.invalidate(group, wanted)
            except NodeFailed:
                if not self.ring.is_out(server):
                    failed |= {name for name, _ in group}
        for name in failed:
            log.warning("%s may be served below version %s until it expires", name, wanted[name])
        return [names[name] for name in failed]

    # -- Django's cache API ----------------------------------------------------------------

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        entry = self.ring.decoded(self._stored(self.make_and_validate_key(key, version)))
        return default if entry is None else entry.value

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        key = self.make_and_validate_key(key, version)
        try:
            self._set({key: value}, timeout)
        except ValueTooLarge as exc:
            # `cache_page` and `{% cache %}` store output. A page must not fail because it is large.
            if not isinstance(value, HttpResponse | SafeString):
                raise
            log.error("not cached: %s", exc)
            self._delete([key])

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        key = self.make_and_validate_key(key, version)
        stored, life_ms = self.ring.encoded(key, value), self._life_ms(timeout)
        if life_ms == 0:
            return self._stored(key) is None
        if place := self.ring.place(key):
            try:
                with self.ring.node(place.node) as node:
                    return node.add(place, key, stored, life_ms=life_ms)
            except NodeFailed:
                pass
        return self.ring.gutter.add(key, stored.text, life_ms)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        return self._stored(self.make_and_validate_key(key, version)) is not None

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        key = self.make_and_validate_key(key, version)
        life_ms = self._life_ms(timeout)
        if place := self.ring.place(key):
            try:
                with self.ring.node(place.node) as node:
                    return node.touch(place, key, life_ms=life_ms)
            except NodeFailed:
                pass
        if (stored := self.ring.gutter.get(key)) is None:
            return False
        self.ring.gutter.set(key, stored, life_ms)
        return True

    def delete(self, key: Any, version: int | None = None) -> bool:
        return bool(self._delete([self.make_and_validate_key(key, version)]))

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Returns the sum. Raises ValueError for a missing key, TypeError if the value or `delta`
        isn't an integer, and OverflowError beyond the 64 bits of a node's counters."""
        total = self._increment(self.make_and_validate_key(key, version), int(index(delta)))
        if total is None:
            raise ValueError(f"Key '{key}' not found")
        return total

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        names = {self.make_and_validate_key(key, version): key for key in keys}
        stored = self._stored_many(list(names))
        entries = {name: self.ring.decoded(text) for name, text in stored.items()}
        return {key: entry.value for name, key in names.items() if (entry := entries[name])}

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Returns the keys that no node stored; this process keeps their values up to a minute."""
        names = {self.make_and_validate_key(key, version): key for key in data}
        failed = self._set({name: data[key] for name, key in names.items()}, timeout)
        return [names[name] for name in failed]

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        self._delete([self.make_and_validate_key(key, version) for key in keys])

    def clear(self) -> None:
        """Hide all values: every key gets a new generation, in all processes within a second.

        Raises RingUnavailable if the list of members can't be changed.
        """
        self.ring.gutter.clear()
        self.ring.seen.clear()
        if not self.ring.members.change(lambda view, now: arrangement.forget_all(view, now=now)):
            raise RingUnavailable("nothing was cleared: the stream server doesn't answer")

    # Django's own async methods handle keys one at a time, and increment in two steps.
    # A subclass that overrides a method must also override the method's async version.

    aget_or_set: Any = sync_to_async(get_or_set)
    ainvalidate: Any = sync_to_async(invalidate)
    ainvalidate_many: Any = sync_to_async(invalidate_many)
    ahas_key: Any = sync_to_async(has_key)
    aincr: Any = sync_to_async(incr)
    aget_many: Any = sync_to_async(get_many)
    aset_many: Any = sync_to_async(set_many)
    adelete_many: Any = sync_to_async(delete_many)

    # -- helpers -----------------------------------------------------------------------------

    def _life_ms(self, timeout: Any) -> int | None:
        """Convert a timeout to ms. None: the value never expires; 0: the value isn't stored."""
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        if seconds is None:
            return None
        return max(1, round(seconds * 1000)) if seconds > 0 else 0

    def _stored(self, key: str) -> bytes | None:
        if place := self.ring.place(key):
            asked = time.monotonic()
            try:
                with self.ring.node(place.node) as node:
                    stored = node.get(place, key)
                if self.ring.has_moved(place, asked=asked):
                    stored = None
                self.ring.count("misses" if stored is None else "hits")
                return stored
            except NodeFailed:
                pass
        self.ring.count("bypassed")
        return self.ring.gutter.get(key)

    def _increment(self, key: str, delta: int) -> int | None:
        if place := self.ring.place(key):
            try:
                with self.ring.node(place.node) as node:
                    return node.increment(place, key, delta)
            except NodeFailed:
                pass
        total = self.ring.gutter.change(key, lambda stored: _sum(key, stored, delta))
        return None if total is None else int(total)

    def _stored_many(self, keys: list[str]) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        groups, _ = self._grouped(keys)
        asked = time.monotonic()
        answers = self.ring.ask_each(groups, lambda node, group: node.send_get_many(group))
        for server, (values,) in answers.items():
            places = {place for _, place in groups[server]}
            moved = {place for place in places if self.ring.has_moved(place, asked=asked)}
            for (key, place), stored in zip(groups[server], values, strict=True):
                found[key] = None if place in moved else stored
        return {key: found[key] if key in found else self.ring.gutter.get(key) for key in keys}

    def _set(self, data: Mapping[str, Any], timeout: Any) -> list[str]:
        """Store the values. The gutter keeps values that no node stored. Returns their keys."""
        life_ms = self._life_ms(timeout)
        stored = {key: self.ring.encoded(key, value) for key, value in data.items()}
        if life_ms == 0:
            self._delete(data)
            return []
        groups, failed = self._grouped(data)
        answers = self.ring.ask_each(
            groups, lambda node, group: node.send_set_many(group, stored, life_ms=life_ms)
        )
        failed += [key for name, group in groups.items() if name not in answers for key, _ in group]
        for key in data:
            self.ring.gutter.delete(key)
        for key in failed:
            self.ring.count("bypassed")
            self.ring.gutter.set(key, stored[key].text, life_ms)
        return failed

    def _delete(self, keys: Iterable[str]) -> int:
        """Delete the keys at every place that a process may use; returns how many existed."""
        keys, deleted = list(keys), 0
        for key in keys:
            self.ring.seen.forget(key)
            deleted += self.ring.gutter.delete(key)
        for name, group in _by_node(self.ring.places(keys)[0]).items():
            with suppress(NodeFailed), self.ring.node(name, at_once=True) as node:
                deleted += node.delete_many(group)
        return deleted

    def _grouped(self, keys: Iterable[str]) -> tuple[dict[str, Placed], list[str]]:
        """Return the keys with their places, grouped by node, and the keys that have no place."""
        placed = self.ring.place_each(keys)
        without = [key for key, place in placed.items() if place is None]
        return _by_node((key, place) for key, place in placed.items() if place), without


def _sum(key: str, stored: bytes, delta: int) -> bytes:
    """The sum in its stored form, with the limits of a node."""
    value = decode(stored).value
    if type(value) is not int:
        raise NotACounter(key)
    if not all(number in COUNTERS for number in (value, delta, value + delta)):
        raise CounterOverflow(key, delta=delta)
    return str(value + delta).encode()


def _by_node(placed: Iterable[tuple[str, Place]]) -> dict[str, Placed]:
    groups: dict[str, Placed] = {}
    for key, place in placed:
        groups.setdefault(place.node, []).append((key, place))
    return groups
