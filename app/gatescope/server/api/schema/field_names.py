"""The names of a request's fields: unknown ones are refused, with the nearest known name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any

from gatescope.errors import Place
from gatescope.server.api.schema.shapes import MAX_PLACES, ShapeError

_MAX_SHOWN_CHARACTERS = 64


def check_known(given: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse fields that are not known.

    Raises:
        ShapeError: with up to `MAX_PLACES` of them.
    """
    unknown = list(islice((name for name in given if name not in known), MAX_PLACES))
    if unknown:
        raise ShapeError(*(_unknown(name, known) for name in unknown))


def _unknown(name: str, known: Collection[str]) -> Place:
    if len(name) > _MAX_SHOWN_CHARACTERS:
        name = f"{name[:_MAX_SHOWN_CHARACTERS]}…"
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known))}"
    return Place((name,), f"unknown field '{name}'; {hint}")
