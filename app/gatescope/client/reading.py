"""`tables_of`: the inputs of a request as tables, where they are such.

Nothing is interpreted: columns that are neither named nor features are refused, rows are neither sorted nor filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gatescope.client import xarray_tables
from gatescope.client.beside import with_future, with_static
from gatescope.client.frames import array_of, is_frame, kind_of
from gatescope.client.tables import ID, Given, Named, Series, Tables, refused, refused_of
from gatescope.errors import InvalidInput


def tables_of(inputs: Any, given: Mapping[str, Any]) -> tuple[Tables | None, dict[str, Any]]:
    """The tables of a request, None where it has none, and its other fields.

    Args:
        inputs: a data frame of pandas or polars, a list of such, a Dataset or DataArray of xarray, or a dictionary of
            frames or arrays by name; anything else is no table.
        given: the other fields; `id` and `timestamps` may name columns, and `observed` list some.

    Raises:
        InvalidInput: a table is not what they say; the sequence is named.
    """
    rest = {each: value for each, value in given.items() if each != ID}
    name, timestamps, observed = given.get(ID), given.get("timestamps"), given.get("observed")
    stamped = timestamps if isinstance(timestamps, str) else None
    inputs, own = xarray_tables.frames_of(inputs, name, stamped)
    parts = _parts(inputs, own)
    if parts is None:
        if name is not None:
            raise refused(ID, f"'{name}' is to name a column, but inputs is no data frame")
        return None, rest
    names = tuple(observed) if isinstance(observed, Sequence) and not isinstance(observed, str) else ()
    rest |= {"timestamps": None if stamped is not None else timestamps, "observed": None if names else observed}
    rest["future_inputs"], _ = xarray_tables.frames_of(given.get("future_inputs"), own, stamped)
    rest["static_inputs"] = xarray_tables.rows_of(given.get("static_inputs"))
    named = Named(own, stamped, names)
    made = _made(parts, named, rest)
    for each in ("sequence_lengths", "layout", *(["ids"] if made.keys is not None else [])):
        if rest.get(each) is not None:
            raise refused(each, "tables say that themselves: leave it out")
    if rest.get("ids") is not None and len(rest["ids"]) == len(parts):
        made = replace(made, keys=tuple(rest.pop("ids")))
    if own is not None:
        made = replace(made, name=own, whole=inputs)
    made, rest = with_future(replace(made, is_lone=is_frame(inputs) and own is None), named, rest)
    return made, with_static(made, rest)


def _parts(inputs: Any, name: str | None) -> list[Given] | None:
    """Each sequence; None where these are no tables."""
    if isinstance(inputs, Mapping):
        if name is not None:
            raise refused(ID, "the keys of the dictionary tell sequences apart: leave it out")
        if not inputs:
            raise refused("inputs", "the dictionary has no sequences")
        return [Given(key, value) for key, value in inputs.items()]
    kind = kind_of(inputs)
    if kind is not None and name is not None:
        if name not in (*kind.columns(inputs), *kind.levels(inputs)):
            raise refused(ID, f"there is no column '{name}'; there are {', '.join(kind.columns(inputs))}")
        return [Given(*each) for each in kind.split(inputs, name)]
    if kind is not None:
        return [Given(None, inputs)]
    if isinstance(inputs, list | tuple) and inputs and all(kind_of(each) is not None for each in inputs):
        return [Given(None, each) for each in inputs]
    return None


def _made(parts: Sequence[Given], named: Named, rest: Mapping[str, Any]) -> Tables:
    kinds = {kind_of(part.frame) for part in parts}
    if len(kinds) > 1:
        raise refused("inputs", "sequences are frames of several kinds: give all of one kind")
    (kind,) = kinds
    keys = None if parts[0].key is None else tuple(part.key for part in parts)
    if kind is None:
        if named.timestamps is not None or named.observed:
            raise refused("inputs", "'timestamps' and 'observed' are to name columns, but sequences are arrays")
        return Tables(None, tuple(Series(part.frame) for part in parts), keys, None)
    columns: list[str] | None = None if rest.get("columns") is None else [str(each) for each in rest["columns"]]
    series = []
    for part in parts:
        frame, known = part.frame, (*kind.columns(part.frame), *kind.levels(part.frame))
        lacks = [name for name in named.apart if name not in known and name != named.id]
        if lacks:
            raise refused_of(
                part, "inputs", f"there is no column '{lacks[0]}'; there are {', '.join(kind.columns(frame))}"
            )
        features = kind.without(frame, named.apart)
        columns = columns or kind.columns(features)
        series.append(_series(kind, part, named, features, columns, has_stamps=rest.get("timestamps") is not None))
    if len({each.stamps is None for each in series}) > 1:
        raise refused("inputs", "some of the tables have times, and some have none")
    return Tables(kind, tuple(series), keys, tuple(columns or ()))


def _series(kind: Any, part: Given, named: Named, features: Any, columns: Sequence[str], *, has_stamps: bool) -> Series:
    frame = part.frame
    if not len(frame):
        raise refused_of(part, "inputs", "it has no rows: a table has a row for each time step")
    if len(getattr(getattr(frame, "index", None), "names", ())) > 1:
        raise refused_of(
            part, "inputs", f"the index has the levels {', '.join(kind.levels(frame))}: say which is the id (id=)"
        )
    try:
        axis = kind.axis(frame, named.timestamps, is_part=part.rows is not None)
        stamps = None if axis is None or has_stamps else axis.stamps()
        values = array_of(features, columns, "inputs")
        places = {name: kind.columns(frame).index(name) for name in named.observed}
        observed = {name: kind.numbers(frame, place) for name, place in places.items()}
    except InvalidInput as error:
        raise refused_of(part, "inputs", error.places[0].message) from None
    except (TypeError, ValueError) as error:
        raise refused_of(part, "inputs", str(error)) from None
    return Series(values, axis, stamps, observed, rows=part.rows)


def in_one(inputs: Any, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The inputs and the other fields of one request, whether they came as tables or not; raises as `tables_of`."""
    tables, rest = tables_of(inputs, given)
    if tables is None:
        return inputs, rest
    made = rest | tables.fields()
    return made.pop("inputs"), made
