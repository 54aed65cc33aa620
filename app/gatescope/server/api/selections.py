"""A trace request -> the `Selection` of the engine; an explain request -> its `Point`."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from operator import neg

from gatescope.decompose import Point
from gatescope.pipeline import size
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.server.api.limits import Limits
from gatescope.server.api.places import in_body, refuse
from gatescope.server.api.schema.requests import ExplainRequest, ScopeSelection, TraceSelection
from gatescope.server.serving.chunking import can_trace_in_chunks
from gatescope.spec import Spec


def to_selection(request: TraceSelection, model: Model, query: Query, limits: Limits, *within: str) -> Selection:
    """The part of the trace that a request asks for, which the server makes at once.

    Args:
        request: whatever asks for a trace.
        model: is traced.
        query: of the same request.
        limits: the operator's.
        within: where in the body the selection stands.

    Raises:
        InvalidInput: it names what the model does not have.
        TraceTooLarge: it has more bytes than the server makes.
    """
    selection = _selected(request, model, query, *within)
    if (longest := _longest_run(model, query)) is not None:
        size.check_trace(selection.shape(len(query.inputs), longest), selection, limits.max_trace_bytes)
    return selection


def to_streamed_selection(request: TraceSelection, model: Model, query: Query, limits: Limits) -> Selection:
    """The same for a trace that is made in chunks: where it can be, only one time step must not be too large.

    Raises:
        InvalidInput: it names what the model does not have.
        TraceTooLarge: what must be made at once has more bytes than the server makes.
    """
    selection = _selected(request, model, query)
    if not can_trace_in_chunks(model, selection):
        return to_selection(request, model, query, limits)
    shape = replace(selection, time=slice(1)).shape(len(query.inputs), 1)
    size.check_trace(shape, selection, limits.max_trace_bytes)
    return selection


def of_read_steps(selection: Selection, model: Model, query: Query) -> Selection:
    """The selected time steps that the model reads: of sequences that it cuts to their last ones, these only.

    Raises:
        InvalidInput: none of them is read.
    """
    window = model.pipeline.pooled_window
    first = 0 if window is None or query.horizon else int(query.sequence_lengths.min()) - window
    if first <= 0 or _longest_run(model, query) is None:
        return selection
    steps = range(query.longest)[selection.time]
    read = (
        steps[bisect_left(steps, first) :] if selection.is_upwards else steps[: bisect_left(steps, 1 - first, key=neg)]
    )
    if not read:
        refuse(f"the model reads the last {window:,} time steps, from {first:,} on: none of these", "time")
    return replace(selection, time=slice(read.start, read.stop if read.stop >= 0 else None, read.step))


def to_scope(request: ScopeSelection, spec: Spec) -> Selection:
    """The layers, directions and units that a request asks for; raises `InvalidInput`."""
    with in_body():
        return _scope(request, spec).resolve(spec)


def to_point(request: ExplainRequest, model: Model, query: Query) -> Point:
    """The unit and time step that an explain request asks for.

    Raises:
        InvalidInput: there is more than one sequence, or it names what the model or the sequence does not have.
    """
    if len(query.inputs) != 1:
        message = f"there are {len(query.inputs)} sequences; a walk-through is of one"
        refuse(message, "inputs" if request.text is None else "text")
    point = Point(request.layer, request.direction, request.time_step, request.unit)
    longest = _longest_run(model, query)
    with in_body():
        return point if longest is None else point.resolve(model.pipeline.spec_of(query.module), longest)


def units_of(units: list[int] | str | None, count: int) -> tuple[int, ...] | None:
    """The units that a list or a slice names; None for all of them."""
    if isinstance(units, str):
        start, stop, step = (int(part) if part else None for part in (units + ":").split(":")[:3])
        return tuple(range(count)[start:stop:step])
    return None if units is None else tuple(units)


def _selected(request: TraceSelection, model: Model, query: Query, *within: str) -> Selection:
    """The part of the trace that a trace request asks for, however large.

    Raises:
        InvalidInput: it names what the model does not have.
    """
    spec, longest = model.pipeline.spec_of(query.module), _longest_run(model, query)
    signals = None if request.signals is None else tuple(request.signals)
    with in_body(*within):
        resolved = replace(_scope(request, spec), signals=signals, time=_time(request)).resolve(spec)
        if longest is not None:
            size.check_steps(resolved, longest)
    return resolved


def _scope(request: ScopeSelection, spec: Spec) -> Selection:
    return Selection(
        layers=None if request.layers is None else tuple(request.layers),
        directions=None if request.directions is None else tuple(request.directions),
        units=units_of(request.units, spec.hidden_size),
    )


def _time(request: TraceSelection) -> slice:
    if request.time is None:
        return slice(None)
    return slice(request.time.start, request.time.stop, request.time.step)


def _longest_run(model: Model, query: Query) -> int | None:
    """Steps that the LSTM runs over; None where its time axis is its own, and shows only when it runs."""
    return query.longest if model.pipeline.module_inputs(query.module).aligned else None
