"""The query of `GET /v1/traces/{trace_id}/values` -> the `View` of a stored trace that it asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import NoReturn

from starlette.datastructures import QueryParams

from gatescope.errors import InvalidInput, Place, TraceTooLarge
from gatescope.pipeline.size import FLOAT_BYTES
from gatescope.selection import Selection
from gatescope.server.api.parameters import VALUES
from gatescope.server.api.schema.field_names import check_known
from gatescope.server.api.schema.fields import Units
from gatescope.server.api.schema.shapes import ShapeError
from gatescope.server.api.selections import units_of
from gatescope.server.serving.bins import REDUCTIONS, Bins
from gatescope.server.serving.stored import StoredTrace, View

_WHOLE = re.compile(r"-?[0-9]{1,9}")
_SHOWN = 20


def to_view(params: QueryParams, stored: StoredTrace) -> View:
    """The part of a stored trace that is asked for.

    Raises:
        InvalidInput: a parameter is not known, cannot be read, or names what the trace does not have.
    """
    given = _given(params)
    sequence = _integer(given, "sequence")
    rows = range(len(stored.lengths)) if sequence is None else [_checked(sequence, stored)]
    steps = _steps(given, max(stored.lengths[row] for row in rows))
    bins, selection = _integer(given, "bins"), _selection(given, stored)
    if bins is None:
        if "reduce" in given:
            _refuse("reduce", "goes with 'bins'")
        return View(rows, selection, Bins.cut(steps, len(steps)), None)
    if bins < 1:
        _refuse("bins", f"must be at least 1, not {bins}")
    return View(rows, selection, Bins.cut(steps, bins), _reduction(given))


def check_size(view: View, most_bytes: int) -> None:
    """Refuse to make a reply at once that is larger than the server makes.

    Raises:
        TraceTooLarge: it is.
    """
    signals = len(view.selection.signals or ())
    size = prod(view.shape) * signals * FLOAT_BYTES
    if size > most_bytes:
        raise TraceTooLarge(
            f"these values have {size:,} bytes ({signals} signals of shape {list(view.shape)}); "
            f"this server makes at most {most_bytes:,} at once: ask for fewer signals, layers, directions, units or "
            "time steps, for bins, or for application/x-ndjson"
        )


def _given(params: QueryParams) -> Mapping[str, str]:
    """Each parameter's value; what is given several times is put together with commas."""
    try:
        check_known(params, VALUES)
    except ShapeError as error:
        raise InvalidInput.at(*(Place(("query", *place.loc), place.message) for place in error.places)) from None
    given = {name: ",".join(params.getlist(name)) for name in params}
    for name, value in given.items():
        if not value:
            _refuse(name, "is empty; leave it out to take the default")
    return given


def _selection(given: Mapping[str, str], stored: StoredTrace) -> Selection:
    layers, directions = _integers(given, "layers"), given.get("directions")
    wanted = Selection(
        None if "signals" not in given else tuple(given["signals"].split(",")),
        layers,
        None if directions is None else tuple(directions.split(",")),
        _units(given, stored),
    )
    try:
        resolved = wanted.resolve(stored.spec)
    except InvalidInput as error:
        raise InvalidInput.at(*(Place(("query", place.loc[0]), place.message) for place in error.places)) from None
    for name in resolved.signals or ():
        if name not in stored.signals:  # it is computed on request only
            kept = ", ".join(map(repr, stored.signals))
            _refuse("signals", f"a stored trace does not hold {name!r}, only {kept}: trace the model itself for it")
    return resolved


def _units(given: Mapping[str, str], stored: StoredTrace) -> tuple[int, ...] | None:
    text = given.get("units")
    if text is None or ":" not in text:
        return _integers(given, "units")
    try:
        return units_of(Units.parse(text), stored.spec.hidden_size)
    except ShapeError:
        _refuse("units", f"must be indices such as 3,17 or a slice such as 0:16, not '{text[:_SHOWN]}'")


def _steps(given: Mapping[str, str], longest: int) -> range:
    steps = range(longest)[_integer(given, "start") : _integer(given, "stop")]
    if not steps:
        name = "start" if "start" in given else "stop"
        asked = " and ".join(f"{bound} {given[bound]}" for bound in ("start", "stop") if bound in given)
        _refuse(name, f"{asked} leave none of the {longest} time steps")
    return steps


def _reduction(given: Mapping[str, str]) -> str:
    reduce = given.get("reduce", "mean")
    if reduce not in REDUCTIONS:
        _refuse("reduce", f"must be one of {', '.join(REDUCTIONS)}, not '{reduce[:_SHOWN]}'")
    return reduce


def _checked(sequence: int, stored: StoredTrace) -> int:
    count = len(stored.lengths)
    if not 0 <= sequence < count:
        _refuse("sequence", f"there is no sequence {sequence}; this trace has 0 to {count - 1}")
    return sequence


def _integer(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not _WHOLE.fullmatch(text):
        _refuse(name, f"must be one whole number of at most 9 digits, not '{text[:_SHOWN]}'")
    return int(text)


def _integers(given: Mapping[str, str], name: str) -> tuple[int, ...] | None:
    text = given.get(name)
    if text is None:
        return None
    parts = text.split(",")
    for part in parts:
        if not _WHOLE.fullmatch(part):
            _refuse(name, f"must be whole numbers, separated by commas, not '{part[:_SHOWN]}'")
    return tuple(map(int, parts))


def _refuse(name: str, message: str) -> NoReturn:
    raise InvalidInput.at(Place(("query", name), message))
