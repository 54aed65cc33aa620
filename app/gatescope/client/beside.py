"""What a request with tables says beside them, sequence by sequence: the steps of the horizon, and static inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gatescope.client.frames import array_of, is_frame, kind_of
from gatescope.client.tables import Given, Named, Series, Tables, refused, refused_of
from gatescope.errors import InvalidInput

_NOT_REGULAR = (
    "its steps are not equally far apart, so it is not known when the {horizon} further ones are: give future_inputs "
    "with their times, or fill up the missing rows (frame.asfreq), or leave the times out (frame.reset_index)"
)


def with_future(tables: Tables, named: Named, rest: Mapping[str, Any]) -> tuple[Tables, dict[str, Any]]:
    """With the tables of `future_inputs`, and what the steps of the horizon are called; and the other fields.

    Raises:
        InvalidInput: sequences lack one, its times do not come behind, or those of the horizon are not known.
    """
    horizon, future = rest.get("horizon") or 0, rest.get("future_inputs")
    parts = _parts(future, tables, named)
    others = {name: value for name, value in rest.items() if parts is None or name != "future_inputs"}
    series = []
    for index, each in enumerate(tables.series):
        made = each if parts is None else _followed(each, parts[index], tables, named)
        if horizon and made.axis is not None and made.axis is each.axis:
            longer = made.axis.carried_on(horizon)
            if longer is None:
                part = Given(None if tables.keys is None else tables.keys[index], None)
                raise refused_of(part, "inputs", _NOT_REGULAR.format(horizon=horizon))
            made = replace(made, axis=longer)
        series.append(made)
    lengths = {len(each.future) for each in series if each.future is not None}
    if len(lengths) > 1:
        raise refused(
            "future_inputs", f"sequences have {min(lengths)} to {max(lengths)} further steps: give each as many"
        )
    return replace(tables, series=tuple(series), horizon=horizon), others


def _parts(future: Any, tables: Tables, named: Named) -> list[Given] | None:
    """The frame or the array of each sequence; None where it goes as it is."""
    kind = kind_of(future)
    if kind is not None and named.id is not None and named.id in (*kind.columns(future), *kind.levels(future)):
        future = {key: frame for key, frame, _ in kind.split(future, named.id)}
    elif kind is not None:
        if len(tables.series) > 1:
            raise refused("future_inputs", "one frame is given for several sequences: give one for each")
        return [Given(None, future)]
    if isinstance(future, Mapping):
        keys = tables.keys or ()
        if set(future) != set(keys):
            other = next(iter(set(future) ^ set(keys)))
            raise refused("future_inputs", f"'{other}' is a sequence of either this or inputs, not of both")
        return [Given(key, future[key]) for key in keys]
    if isinstance(future, list | tuple) and len(future) == len(tables.series) and all(map(is_frame, future)):
        return [Given(None, frame) for frame in future]
    return None


def _followed(series: Series, part: Given, tables: Tables, named: Named) -> Series:
    kind = kind_of(part.frame)
    if kind is None:
        return replace(series, future=np.asarray(part.frame, dtype=np.float64))
    try:
        features = kind.without(part.frame, named.apart)
        values = array_of(features, tables.columns or kind.columns(features), "future_inputs")
        further = _axis(kind, part, named)
        if further is None or series.axis is None or not (further.is_time and series.axis.is_time):
            return replace(series, future=values)
        if not series.axis.is_before(further):
            raise ValueError("its times do not come behind those of inputs")  # noqa: TRY301 - as others do
        return replace(series, future=values, axis=series.axis.followed_by(further))
    except InvalidInput as error:
        raise refused_of(part, "future_inputs", error.places[0].message) from None
    except (TypeError, ValueError) as error:
        raise refused_of(part, "future_inputs", str(error)) from None


def _axis(kind: Any, part: Given, named: Named) -> Any:
    if named.timestamps is not None and named.timestamps not in kind.columns(part.frame):
        return None
    return kind.axis(part.frame, named.timestamps, is_part=False)


def with_static(tables: Tables, rest: Mapping[str, Any]) -> dict[str, Any]:
    """The other fields with `static_inputs` in the order of the sequences, where it names them.

    Raises:
        InvalidInput: a sequence has none.
    """
    given: Any = rest.get("static_inputs")
    kind = kind_of(given)
    if tables.ids is None or (kind is None and not isinstance(given, Mapping)):
        return dict(rest)
    if kind is None:
        places = _places([str(key) for key in given], tables.ids)
        vectors = list(given.values())
        return {**rest, "static_inputs": np.array([vectors[place] for place in places], dtype=np.float64)}
    features = kind.without(given, [tables.name])
    columns = list(rest.get("static_columns") or kind.columns(features))
    values = array_of(features, columns, "static_inputs")
    rows = values[_places(kind.row_names(given, tables.name), tables.ids)]
    return {**rest, "static_inputs": rows, "static_columns": columns}


def _places(names: Sequence[str], ids: Sequence[str]) -> list[int]:
    """Where each sequence stands among the rows that are named so."""
    places = {name: place for place, name in enumerate(names)}
    if missing := [each for each in ids if each not in places]:
        raise refused("static_inputs", f"there is no row for '{missing[0]}'; the ids tell which row is whose")
    return [places[each] for each in ids]
