"""`labels_of`: ids, times and measured values of a request's sequences, checked against these."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from itertools import pairwise
from math import isfinite
from typing import Any

from gatescope.pipeline.model import Model
from gatescope.server.api.places import refuse
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.server.serving.row_labels import NO_LABELS, RowLabels
from gatescope.tables.further_times import Stamp

_LONGEST = 64  # characters of a text in messages


def labels_of(request: PredictRequest, lengths: Sequence[int], model: Model) -> RowLabels:
    """What the request says of its sequences.

    Args:
        request: validated but for these fields.
        lengths: how many steps each sequence has.
        model: is asked.

    Raises:
        InvalidInput: there are not as many as sequences or steps, or they are none; the place is named.
    """
    if request.ids is None and request.timestamps is None and request.observed is None:
        return NO_LABELS
    ids, stamps = _ids(request, len(lengths)), stamps_of(request, lengths)
    observed = _observed(request, lengths, model)
    if stamps is None:
        return RowLabels(ids, observed=observed)
    known = [row[:length] for row, length in zip(stamps, lengths, strict=True)]
    further = [row[length:] for row, length in zip(stamps, lengths, strict=True)]
    return RowLabels(ids, known, observed, further if any(further) else None)


def _ids(request: PredictRequest, rows: int) -> list[str] | None:
    ids = request.ids
    if ids is None:
        return None
    if len(ids) != rows:
        refuse(f"has {len(ids)} ids for {_counted(rows, 'sequence')}", "ids")
    seen: set[str] = set()
    for row, each in enumerate(ids):
        if each in seen:
            refuse(f"{each[:_LONGEST]!r} stands there twice", "ids", row)
        seen.add(each)
    return ids


def stamps_of(request: PredictRequest, lengths: Sequence[int]) -> list[list[Stamp]] | None:
    """The times of each sequence's steps, behind them those of its horizon where these are said; None without any.

    Raises:
        InvalidInput: they are none, or not as many as steps.
    """
    if request.timestamps is None:
        return None
    rows, is_lone = _per_row(request.timestamps, lengths, "timestamps", further=request.horizon or 0)
    kinds = {isinstance(stamp, str) for row in rows for stamp in row}
    zoned: set[bool] = set()
    for index, row in enumerate(rows):
        place = ("timestamps",) if is_lone else ("timestamps", index)
        if len(kinds) > 1:
            refuse("are texts and numbers; they must be of one kind", "timestamps")
        moments = [_moment(stamp, *place, step) for step, stamp in enumerate(row)]
        zoned |= {moment.tzinfo is not None for moment in moments if isinstance(moment, datetime)}
        if len(zoned) > 1:
            refuse("some have a time zone, and some have none; give all of them one, or none", *place)
        for step, (before, after) in enumerate(pairwise(moments)):
            if not before < after:  # type: ignore[operator] # of one kind
                refuse(f"must come behind {row[step]}, the step before it; it is {row[step + 1]}", *place, step + 1)
    return rows


def _moment(stamp: Any, *place: str | int) -> datetime | float:
    if isinstance(stamp, bool) or not isinstance(stamp, str | int | float):
        refuse("must be a text in ISO 8601 or a number", *place)
    if not isinstance(stamp, str):
        if not isfinite(stamp):
            refuse("must be a finite number", *place)
        return float(stamp)
    try:
        return datetime.fromisoformat(stamp)
    except ValueError:
        refuse(f"{stamp[:_LONGEST]!r} is no time in ISO 8601, such as 2001-10-01 or 2001-10-01T12:00", *place)


def _observed(
    request: PredictRequest, lengths: Sequence[int], model: Model
) -> dict[str, list[list[float | None]]] | None:
    if request.observed is None:
        return None
    head = model.manifest.head
    names = () if head is None else head.names
    made: dict[str, list[list[float | None]]] = {}
    for name, values in request.observed.items():
        if name not in names:
            near = get_close_matches(name[:_LONGEST], names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(map(repr, names)) or 'none'}"
            refuse(f"model '{model.name}' has no output '{name[:_LONGEST]}'; {hint}", "observed", name)
        rows, is_lone = _per_row(values, lengths, "observed", name)
        for index, row in enumerate(rows):
            for step, value in enumerate(row):
                is_number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
                if value is not None and not is_number:
                    at = (step,) if is_lone else (index, step)
                    refuse("must be a number, or null where nothing was measured", "observed", name, *at)
        made[name] = rows
    return made


def _per_row(values: list[Any], lengths: Sequence[int], *place: str, further: int = 0) -> tuple[list[list[Any]], bool]:
    """A list for each sequence, and whether there was one for a lone sequence alone.

    Each has an entry for each step, or all of them have so many further ones.
    """
    is_lone = len(lengths) == 1 and not (values and isinstance(values[0], list))
    rows = [values] if is_lone else values
    if len(rows) != len(lengths):
        refuse(f"has {len(rows)} lists for {_counted(len(lengths), 'sequence')}", *place)
    first = rows[0]
    more = further if isinstance(first, list) and len(first) == lengths[0] + further else 0
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        where: tuple[str | int, ...] = place if is_lone else (*place, index)
        if not isinstance(row, list):
            refuse("must be a list with an entry for each step", *where)
        if len(row) != length + more:
            steps = _counted(length, "time step") + (f" and {more} of the horizon" if more else "")
            refuse(f"has {len(row)} entries for {steps}", *where)
    return rows, is_lone


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
