"""The Consistency-Token: the positions of a client's own writes, which its reads must reach.

A token has the format's version and a part per service, separated by tildes. It's safe in headers,
cookies and URLs. A part is `accounts.<system identifier>.<timeline>.<flushed LSN>[.<xid>]`.
A token grants no rights; a forged token only makes its sender wait (ADR 0010).
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

HEADER: Final = "Consistency-Token"
COOKIE: Final = "consistency_token"
COOKIE_SECONDS: Final = 3600  # longer than the lag of any replica in use
MAX_LENGTH: Final = 512  # characters; two services need 150
VERSION: Final = "1"

_PART: Final = re.compile(
    r"([a-z][a-z0-9_]{0,30})\.([0-9]{1,20})\.([0-9]{1,10})\.([0-9a-f]{1,16})(?:\.([0-9]{1,20}))?",
    re.ASCII,
)


class UnreadableToken(ValueError):
    """The text is too long, of another version, or not a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A position in a service's history. `xid` belongs to the last write that recorded an event."""

    system: int
    timeline: int
    lsn: int
    xid: int | None = None

    def joined(self, newer: "Part") -> "Part":
        """Return the later positions; for different histories, the part of the later history."""
        if self.system != newer.system or self.timeline < newer.timeline:
            return newer
        if self.timeline > newer.timeline:
            return self
        xids = [xid for xid in (self.xid, newer.xid) if xid is not None]
        return replace(self, lsn=max(self.lsn, newer.lsn), xid=max(xids, default=None))

    def __str__(self) -> str:
        xid = "" if self.xid is None else f".{self.xid}"
        return f"{self.system}.{self.timeline}.{self.lsn:x}{xid}"


@dataclass(frozen=True, slots=True)
class Token:
    """A token with at most one part per service. Without parts, reads don't wait."""

    parts: Mapping[str, Part] = field(default_factory=lambda: MappingProxyType({}))

    def joined(self, newer: "Token") -> "Token":
        merged = dict(self.parts)
        for service, part in newer.parts.items():
            merged[service] = merged[service].joined(part) if service in merged else part
        return Token(MappingProxyType(merged))

    def without(self, services: Iterable[str]) -> "Token":
        dropped = set(services)
        left = {name: part for name, part in self.parts.items() if name not in dropped}
        return Token(MappingProxyType(left))

    def __str__(self) -> str:
        texts = [f"{service}.{part}" for service, part in sorted(self.parts.items())]
        return "~".join([VERSION, *texts])


def parse(text: str, *, services: Collection[str]) -> Token:
    """Parse a token, without the parts of unknown services. Raises UnreadableToken."""
    if len(text) > MAX_LENGTH:
        raise UnreadableToken(f"{len(text)} characters, more than {MAX_LENGTH}")
    version, *texts = text.split("~")
    if version != VERSION:
        raise UnreadableToken(f"the version isn't {VERSION}")
    parts: dict[str, Part] = {}
    for part in texts:
        service, value = _part(part)
        if service in parts:
            raise UnreadableToken(f"two parts of {service}")
        parts[service] = value
    known = {service: part for service, part in parts.items() if service in services}
    return Token(MappingProxyType(known))


def _part(text: str) -> tuple[str, Part]:
    if not (match := _PART.fullmatch(text)):
        raise UnreadableToken("a part has the wrong format")
    service, system, timeline, lsn, xid = match.groups()
    part = Part(
        system=int(system),
        timeline=int(timeline),
        lsn=int(lsn, 16),
        xid=None if xid is None else int(xid),
    )
    if part.system >> 64 or part.timeline >> 32 or (part.xid or 0) >> 64:
        raise UnreadableToken("a number is out of range")
    return service, part
