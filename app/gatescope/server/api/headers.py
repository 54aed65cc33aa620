"""Headers that every request is asked for, looked up once."""

from __future__ import annotations

import re
import secrets
from itertools import count
from typing import Any

from starlette.datastructures import Headers

REQUEST_ID = "X-Request-ID"
REQUEST_ID_NAME = REQUEST_ID.lower().encode()
"""As it stands in a scope."""

_PROCESS, _COUNTER = secrets.token_hex(4), count()
_PLAIN_ID = re.compile(r"[\w.:/+=-]{1,128}")


class PlainHeaders(Headers):
    """Headers in a dictionary: a request asks for half a dozen of them."""

    def __init__(self, *, raw: list[tuple[bytes, bytes]]) -> None:
        super().__init__(raw=raw)
        self._first = {name: value.decode("latin-1") for name, value in reversed(raw)}

    def get(self, key: str, default: Any = None) -> Any:
        """The first of this name."""
        return self._first.get(key.lower().encode("latin-1"), default)


def request_id_of(headers: list[tuple[bytes, bytes]]) -> str:
    """The id that a request brings, if it can be one, else another."""
    for name, value in headers:
        if name == REQUEST_ID_NAME:
            given = value.decode("latin-1")
            if _PLAIN_ID.fullmatch(given):
                return given
            break
    return f"{_PROCESS}{next(_COUNTER):08x}"
