"""Django's cache API on a ring, without knowing how its nodes are spoken to."""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from . import arrangement as ring
from . import values as ring_values
from .arrangement import Place, Placed
from .errors import NodeFailed, RingUnavailable
from .leases import Reader
from .process import Ring

log = logging.getLogger(__name__)


class RingBackend(BaseCache):
    """Everything of Django's cache API, and `invalidate`, on `self.ring`."""

    ring: Ring
    negative_ms: int

    # -- versions and leases -------------------------------------------------------------

    def get_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """The value; if it isn't there, `default` (called, if it can be), which is stored.

        However many ask for one key at once, in however many processes, one of them loads.
        """
        key = self.make_and_validate_key(key, version)
        load = default if callable(default) else lambda: default
        if (life_ms := self._life_ms(timeout)) == 0:
            entry = self.ring.decoded(self._stored(key))
            return load() if entry is None else entry.value
        return Reader(self.ring, key, load, life_ms=life_ms, negative_ms=self.negative_ms).read()

    def invalidate(self, key: Any, floor: int, version: int | None = None) -> bool:
        """Let no version below `floor` be served or stored, wherever a process may look for it.

        True if that is so; False if it couldn't be made sure. Never raises because of the ring.
        A node that doesn't take it is ejected, so that what it holds is never served.
        """
        return not self.invalidate_many({key: floor}, version)

    def invalidate_many(self, floors: Mapping[Any, int], version: int | None = None) -> list[Any]:
        """The same for many keys; those for which it couldn't be made sure."""
        asked = {self.make_and_validate_key(key, version): key for key in floors}
        for made in asked:
            self.ring.gutter.delete(made)
        wanted = {made: floors[key] for made, key in asked.items()}
        placed, sure = self.ring.places(asked)
        unsure = set() if sure else set(asked)
        for name, group in _grouped(placed).items():
            try:
                with self.ring.node(name, at_once=True) as node:
                    node.invalidate(group, wanted)
            except NodeFailed:
                if not self.ring.is_out(name):
                    unsure |= {made for made, _ in group}
        for made in unsure:
            log.warning("%s may be served below version %s until it expires", made, wanted[made])
        return [asked[made] for made in unsure]

    # -- Django's cache API ----------------------------------------------------------------

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        entry = self.ring.decoded(self._stored(self.make_and_validate_key(key, version)))
        return default if entry is None else entry.value

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        self._put({self.make_and_validate_key(key, version): value}, timeout)

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
        found = self._counted(self.make_and_validate_key(key, version), delta)
        if found is None:
            raise ValueError(f"Key '{key}' not found")
        return found

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        asked = {self.make_and_validate_key(key, version): key for key in keys}
        stored = self._stored_many(list(asked))
        entries = {made: self.ring.decoded(text) for made, text in stored.items()}
        return {key: entry.value for made, key in asked.items() if (entry := entries[made])}

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """The keys that no node took; this process alone has them, for a minute."""
        asked = {self.make_and_validate_key(key, version): key for key in data}
        failed = self._put({made: data[key] for made, key in asked.items()}, timeout)
        return [asked[made] for made in failed]

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        self._delete([self.make_and_validate_key(key, version) for key in keys])

    def clear(self) -> None:
        """Every key gets a new generation, for all processes (within a second).

        Raises RingUnavailable when they couldn't be told.
        """
        self.ring.gutter.clear()
        self.ring.seen.clear()
        if not self.ring.members.change(lambda view, now: ring.forget_all(view, now=now)):
            raise RingUnavailable("nothing was cleared: the store of the ring's members is away")

    # Django's own do one key after the other, or count in two steps.

    async def aget_or_set(self, *args: Any, **kwargs: Any) -> Any:
        return await sync_to_async(self.get_or_set)(*args, **kwargs)

    async def ainvalidate(self, *args: Any, **kwargs: Any) -> bool:
        return await sync_to_async(self.invalidate)(*args, **kwargs)

    async def ainvalidate_many(self, *args: Any, **kwargs: Any) -> list[Any]:
        return await sync_to_async(self.invalidate_many)(*args, **kwargs)

    async def ahas_key(self, *args: Any, **kwargs: Any) -> bool:
        return await sync_to_async(self.has_key)(*args, **kwargs)

    async def aincr(self, *args: Any, **kwargs: Any) -> int:
        return await sync_to_async(self.incr)(*args, **kwargs)

    async def aget_many(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return await sync_to_async(self.get_many)(*args, **kwargs)

    async def aset_many(self, *args: Any, **kwargs: Any) -> list[Any]:
        return await sync_to_async(self.set_many)(*args, **kwargs)

    async def adelete_many(self, *args: Any, **kwargs: Any) -> None:
        await sync_to_async(self.delete_many)(*args, **kwargs)

    # -- how ---------------------------------------------------------------------------------

    def _life_ms(self, timeout: Any) -> int | None:
        """None for ever, 0 for not at all."""
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        if seconds is None:
            return None
        return max(1, round(seconds * 1000)) if seconds > 0 else 0

    def _stored(self, key: str) -> bytes | None:
        if place := self.ring.place(key):
            asked = time.monotonic()
            try:
                with self.ring.node(place.node) as node:
                    found = node.get(place, key)
                if self.ring.has_moved(place, asked=asked):
                    found = None
                self.ring.count("misses" if found is None else "hits")
                return found
            except NodeFailed:
                pass
        self.ring.count("bypassed")
        return self.ring.gutter.get(key)

    def _counted(self, key: str, delta: int) -> int | None:
        if place := self.ring.place(key):
            try:
                with self.ring.node(place.node) as node:
                    return node.count(place, key, delta)
            except NodeFailed as exc:
                if "not an integer" in str(exc):
                    raise TypeError(f"the value of {key} isn't a whole number") from exc
        counted = self.ring.gutter.change(
            key,
            lambda stored: self.ring.encoded(key, ring_values.decode(stored).value + delta).text,
        )
        return None if counted is None else int(counted)

    def _stored_many(self, keys: list[str]) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        placed, _ = self._by_node(keys)
        asked = time.monotonic()
        answers = self.ring.at_each(placed, lambda node, group: node.begin_get_many(group))
        for name, (stored,) in answers.items():
            group = placed[name]
            moved = {
                p for p in {place for _, place in group} if self.ring.has_moved(p, asked=asked)
            }
            for (key, place), each in zip(group, stored, strict=True):
                found[key] = None if place in moved else each
        return {key: found[key] if key in found else self.ring.gutter.get(key) for key in keys}

    def _put(self, data: Mapping[str, Any], timeout: Any) -> list[str]:
        """The keys that no node took."""
        life_ms = self._life_ms(timeout)
        stored = {key: self.ring.encoded(key, value) for key, value in data.items()}
        if life_ms == 0:
            self._delete(data)
            return []
        placed, failed = self._by_node(data)
        took = self.ring.at_each(
            placed, lambda node, group: node.begin_set_many(group, stored, life_ms=life_ms)
        )
        failed += [key for name, group in placed.items() if name not in took for key, _ in group]
        for key in data:
            self.ring.gutter.delete(key)
        for key in failed:
            self.ring.count("bypassed")
            self.ring.gutter.set(key, stored[key].text, life_ms)
        return failed

    def _delete(self, keys: Iterable[str]) -> int:
        """How many there were. They go wherever a process may look for them."""
        keys, there = list(keys), 0
        for key in keys:
            self.ring.seen.forget(key)
            there += self.ring.gutter.delete(key)
        for name, group in _grouped(self.ring.places(keys)[0]).items():
            try:
                with self.ring.node(name, at_once=True) as node:
                    there += node.delete_many(group)
            except NodeFailed:
                continue
        return there

    def _by_node(self, keys: Iterable[str]) -> tuple[dict[str, Placed], list[str]]:
        """The keys with their places, a group for each node; and those that have no place."""
        placed = self.ring.place_each(keys)
        homeless = [key for key, place in placed.items() if place is None]
        return _grouped((key, place) for key, place in placed.items() if place), homeless


def _grouped(placed: Iterable[tuple[str, Place]]) -> dict[str, Placed]:
    groups: dict[str, Placed] = {}
    for key, place in placed:
        groups.setdefault(place.node, []).append((key, place))
    return groups
