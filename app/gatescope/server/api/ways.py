"""`Ways`: what answers the paths that are asked for by the thousand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from starlette.responses import Response

Endpoint = Callable[..., Awaitable[Response]]
"""Takes the request and what stands for the names of its path."""

PATHS_KNOWN, LONGEST_KNOWN = 4096, 512
"""So many paths are remembered, none with more characters."""


@dataclass(frozen=True)
class Way:
    """What answers a path with names in braces."""

    path: str  # called as Starlette's routes call it: metrics read it
    endpoint: Endpoint
    quick: Mapping[bytes, Callable[..., Any]] = field(default_factory=dict)
    """What begins to answer bodies of a content type, as `gatescope/server/api/quick.py` has it."""

    @cached_property
    def parts(self) -> list[str]:
        """Of the path."""
        return self.path.split("/")

    def names(self, parts: list[str]) -> dict[str, str] | None:
        """What stands for the names in a path with as many parts; None if it is not this one's."""
        names = {}
        for wanted, part in zip(self.parts, parts, strict=True):
            if wanted.startswith("{"):
                names[wanted[1:-1]] = part
            elif wanted != part:
                return None
        return names if all(names.values()) else None


class Ways:
    """Finds the way of a path by how it ends.

    Args:
        ways: no two of them with as many parts and the same last one.
    """

    def __init__(self, ways: list[Way]) -> None:
        self._ways = {(way.parts[-1], len(way.parts)): way for way in ways}
        self._known = lru_cache(PATHS_KNOWN)(self._of)

    def of(self, path: str) -> tuple[Way, dict[str, str]] | None:
        """The way that a path fits and what stands for its names, or None."""
        return self._known(path) if len(path) <= LONGEST_KNOWN else self._of(path)

    def _of(self, path: str) -> tuple[Way, dict[str, str]] | None:
        parts = path.split("/")
        way = self._ways.get((parts[-1], len(parts)))
        names = None if way is None else way.names(parts)
        return None if way is None or names is None else (way, names)
