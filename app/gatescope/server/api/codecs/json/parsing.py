"""Reads the fields of a JSON object, and says where in it a number is none."""

from __future__ import annotations

import gc
import re
import threading
from typing import Any

import orjson

from gatescope.errors import InvalidInput, InvalidJSON, Place
from gatescope.server.api import offload

MOST_FIELDS = 10_000
"""A large body with more names of fields is refused: reading it would hold up others."""

_NOT_FINITE = re.compile(r"(?:NaN|-?Infinity)\b")
"""What Python and others write for numbers that JSON does not have."""

_SHOWN = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]')


def fields_of(content: bytes) -> dict[str, Any]:
    """A JSON object's fields; raises `InvalidJSON`, `InvalidInput`."""
    with _without_collector:
        value = _parse(content)
    if not isinstance(value, dict):
        raise InvalidInput.at(Place(("body",), "the body must be a JSON object"))
    return value


class _WithoutCollector:
    """JSON has no cycles, and to look for some over and over, while millions of lists are made, takes seconds.

    Several threads may be inside at once: the last one that leaves has the collector on again, if it was.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._was_enabled = threading.Lock(), 0, False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._was_enabled:
                gc.enable()


_without_collector = _WithoutCollector()


def _parse(body: bytes) -> Any:
    if len(body) > offload.MAX_LOOP_BYTES and _count_fields(body) > MOST_FIELDS:
        raise InvalidInput.at(Place(("body",), f"has more than {MOST_FIELDS:,} fields; a request has a few"))
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        number = _NOT_FINITE.match(error.doc, max(error.pos - 1, 0)) or _NOT_FINITE.match(error.doc, error.pos)
        if number is None and "infinity" not in error.msg:
            raise InvalidJSON(f"the body is not JSON: {error}") from None
        shown = "inf" if number is None else _SHOWN[number[0]]
        place = Place(("body", *_place_at(error.doc, error.pos)), f"must be a finite float32 number, not {shown}")
        raise InvalidInput.at(place) from None


def _count_fields(body: bytes) -> int:
    """How many names of fields a body has, about: what looks like one inside of a text counts, too."""
    return body.translate(None, b" \t\r\n").count(b'":')


def _place_at(document: str, position: int) -> list[str | int]:
    """The names and indices that lead to what stands at this position; all before it is sound."""
    path: list[str | int] = []
    name = ""
    for token in _TOKEN.finditer(document, 0, position):
        match token[0][0]:
            case "[":
                path.append(0)
            case "{":
                path.append("")
            case "]" | "}":
                path.pop()
            case ",":
                last = path[-1]
                path[-1] = last + 1 if isinstance(last, int) else ""
            case ":":
                path[-1] = orjson.loads(name)
            case _:
                name = token[0]
    return path
