"""Interventions in a request -> those of the engine's query, and what their reply tells of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from gatescope.errors import InvalidInput
from gatescope.interventions import Intervention, read_for_means
from gatescope.interventions.intervention import FIELD
from gatescope.pipeline import size
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.api.limits import Limits
from gatescope.server.api.places import in_body, refuse
from gatescope.server.api.schema.requests import InterventionRequest
from gatescope.server.api.selections import units_of
from gatescope.server.serving.stored import Note, StoredTrace

FindTrace = Callable[[str], StoredTrace]
"""Gives the stored trace of this id; raises `TraceNotFound`."""


def _intervention(request: InterventionRequest, query: Query, model: Model) -> Intervention:
    """One of them, not checked yet."""
    spec = model.pipeline.spec_of(query.module)
    units, time = units_of(request.units, spec.hidden_size), request.time
    if isinstance(request.units, str) and units is not None:  # a slice takes what there is
        units = tuple(unit for unit in units if unit < spec.signal_sizes.get(request.signal, spec.hidden_size))
    return Intervention(
        request.signal,
        request.layer,
        request.direction,
        units,
        None if time is None else time.start,
        None if time is None else time.stop,
        request.sequences,
        request.scope,
        request.set,
        request.scale,
        request.shift,
        bool(request.mean),
        bool(request.freeze),
        None if request.patch is None else torch.from_numpy(request.patch),
    )


def interventions_of(
    requests: Sequence[InterventionRequest], query: Query, model: Model, find: FindTrace
) -> list[Intervention]:
    """The interventions, not checked yet, their patches read from the traces that they name.

    Args:
        requests: of a body.
        query: that they are of.
        model: is asked.
        find: gives a stored trace that is there for whoever asks.

    Raises:
        InvalidInput: a patch cannot be taken from there.
        TraceNotFound: there is no such trace.
    """
    return [_patched(each, index, query, model, find) for index, each in enumerate(requests)]


def _patched(asked: InterventionRequest, index: int, query: Query, model: Model, find: FindTrace) -> Intervention:
    intervention, place = _intervention(asked, query, model), (FIELD, index, "patch_from")
    if asked.patch_from is None:
        return intervention
    if asked.patch is not None:
        refuse("give either 'patch' or 'patch_from', not both", *place)
    stored = find(asked.patch_from.trace_id)
    if stored.model is not model:
        of = f"'{stored.model.name}', version '{stored.model.version}'"
        refuse(f"is a trace of model {of}, as it was then", *place, "trace_id")
    if stored.answer.module != (query.module or next(iter(model.pipeline.lstms))):
        refuse(f"is a trace of the recurrent module '{stored.answer.module}'", *place, "trace_id")
    try:
        sequence = stored.sequence(asked.patch_from.sequence)
    except InvalidInput as error:
        refuse(error.places[0].message, *place, "sequence")
    return replace(intervention, patch=stored.trace_of(sequence))


def edited(query: Query, interventions: Sequence[Intervention], model: Model, limits: Limits) -> Query:
    """The same query with these interventions.

    Raises:
        InvalidInput: they do not fit the model or the sequences, or the model bears none.
        TraceTooLarge: what must be read for a mean has more bytes than the server makes.
    """
    stated = query.evolve(interventions=tuple(interventions))
    with in_body():
        model.pipeline.check_interventions(stated)
    if not model.pipeline.runs_over_inputs:
        return stated  # its steps show when it runs
    spec, (batch, longest) = model.pipeline.spec_of(query.module), query.inputs.shape[:2]
    if (means := read_for_means(interventions)) is not None:
        read = means.resolve(spec)
        size.check_trace(read.shape(batch, longest), read, limits.max_trace_bytes)
    return query.evolve(interventions=tuple(each.resolved(spec, batch, longest) for each in interventions))


def notes_on(query: Query, model: Model) -> Iterator[Note]:
    """Which interventions may take a signal out of its range."""
    signals = {signal.name: signal for signal in model.pipeline.spec_of(query.module).signals}
    for index, each in enumerate(query.interventions):
        signal = signals[each.signal]
        if each.may_leave_range and (signal.low, signal.high) != (None, None):
            low = "−∞" if signal.low is None else f"{signal.low:g}"
            high = "∞" if signal.high is None else f"{signal.high:g}"
            message = f"{each.signal} may leave its range, {low} to {high}; no value is clipped"
            yield {"code": "out_of_range", "message": message, "loc": ("body", FIELD, index)}
