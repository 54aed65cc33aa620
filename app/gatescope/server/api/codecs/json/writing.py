"""Values with arrays in them as JSON: at once, or piece by piece where they are large.

Whoever writes JSON holds the interpreter meanwhile. What is large is written on another thread, and in pieces: after
a few of them that thread gives way, so that the event loop can turn to the other requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from gatescope.server.api.codecs.arrays import size_of
from gatescope.server.api.codecs.ragged import Ragged
from gatescope.server.gil import GilYielder

PIECE_BYTES = 64 * 1024
"""So much of the arrays is written in one go, about: a millisecond or two."""

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS


def dumps(value: Any, *, end: bool = False) -> bytes:
    """A value as JSON, with a line's end behind it where one is wanted."""
    return orjson.dumps(value, default=_plain, option=_OPTIONS | (orjson.OPT_APPEND_NEWLINE if end else 0))


def pieces(value: Any) -> list[bytes]:
    """What `dumps` writes, in pieces of `PIECE_BYTES` of the arrays or more; at least one.

    Where there are several it is not for the event loop to call: between two of them the thread gives way to others.
    """
    if size_of(value) <= PIECE_BYTES:
        return [dumps(value)]
    gathered, waiting, size, turn = list[bytes](), list[bytes](), 0, GilYielder()
    for part in _parts(value):
        waiting.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            gathered.append(b"".join(waiting))
            waiting, size = [], 0
        turn.give_way()
    return [*gathered, b"".join(waiting)] if waiting else gathered


def _parts(value: Any) -> Iterator[bytes]:
    if size_of(value) <= PIECE_BYTES:
        yield dumps(value)
    elif isinstance(value, Ragged):
        yield from _parts(value.rows())
    elif isinstance(value, dict):
        opening = b"{"
        for name, item in value.items():
            yield b"%b%b:" % (opening, dumps(name))
            yield from _parts(item)
            opening = b","
        yield b"}"
    else:
        opening = b"["
        for group in _groups(value):
            yield opening
            # a lone one that is too large for a piece, or as many as make one: without the brackets around them
            yield from _parts(group[0]) if _is_split(group) else (dumps(group)[1:-1],)
            opening = b","
        yield b"]"


def _is_split(group: np.ndarray | list[Any]) -> bool:
    return len(group) == 1 and size_of(group[0]) > PIECE_BYTES


def _groups(value: np.ndarray | list[Any]) -> Iterator[np.ndarray | list[Any]]:
    """A list's items, or an array's along its first axis, as many at a time as make a piece; at least one."""
    if isinstance(value, np.ndarray):
        at_once = max(1, PIECE_BYTES * len(value) // value.nbytes)
        for first in range(0, len(value), at_once):
            yield value[first : first + at_once]
        return
    group, size = list[Any](), 0
    for item in value:
        if group and size + size_of(item) > PIECE_BYTES:
            yield group
            group, size = [], 0
        group.append(item)
        size += size_of(item)
    yield group


def _plain(value: object) -> np.ndarray | list[np.ndarray]:
    """What orjson does not write as it is: rows of several lengths, and arrays that do not lie together in memory."""
    if isinstance(value, Ragged):
        return value.rows()
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value)
    raise TypeError(f"a reply holds a {type(value).__name__}")
