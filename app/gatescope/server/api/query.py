"""A validated request -> the engine's `Query`: what its fields mean together, for this model."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from math import prod
from weakref import WeakKeyDictionary

import numpy as np
import torch

from gatescope import padding
from gatescope.pipeline import size
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.api.horizon import future_inputs_of, horizon_of
from gatescope.server.api.limits import Limits
from gatescope.server.api.places import refuse
from gatescope.server.api.schema.requests import InitialState, PredictRequest, StepRequest
from gatescope.server.api.schema.shapes import Expected
from gatescope.server.api.selections import to_selection
from gatescope.server.api.sequences import LONGEST_TOKEN, check_lengths, sequences_of
from gatescope.state import State

_EXPECTED: WeakKeyDictionary[Model, Expected] = WeakKeyDictionary()


def expected(model: Model) -> Expected:
    """How long the axes of a request's arrays must be for this model."""
    known = _EXPECTED.get(model)
    if known is None:
        known = _EXPECTED[model] = _expected(model)
    return known


def _expected(model: Model) -> Expected:
    spec, inputs = model.spec, model.manifest.input
    sizes = {
        "layer_direction": spec.num_layers * spec.num_directions,
        "hidden_unit": spec.hidden_state_size,
        "cell_unit": spec.hidden_size,
    }
    if isinstance(inputs, FeatureInputs):
        sizes["feature"] = len(inputs.features)
    if model.vocabulary is not None:
        sizes["vocabulary"] = len(model.vocabulary)
    return Expected(model.name, inputs.kind, sizes)


def to_query(request: PredictRequest, model: Model, limits: Limits) -> Query:
    """The query that a predict request states.

    Raises:
        InvalidInput: fields that do not go together or do not fit the model; the place is named.
        ReplyTooLarge: the answer would have more bytes than the server makes.
    """
    sequences = sequences_of(request, model, limits)
    check_lengths([len(sequence) for sequence in sequences], request, limits)
    inputs, lengths = padding.pad([torch.from_numpy(np.ascontiguousarray(sequence)) for sequence in sequences])
    wanted = _outputs(request, model)
    query = Query(
        inputs=inputs,
        sequence_lengths=lengths,
        initial_state=_initial_state(request.initial_state, model, len(sequences)),
        horizon=horizon_of(request, model),
        future_inputs=future_inputs_of(request, model, len(sequences)),
        prediction="prediction" in wanted,
        output="output" in wanted,
        final_state="final_state" in wanted,
        module=_module(request, model),
        most_bytes=limits.max_trace_bytes,
    )
    _check_reply_size(query, model, limits)
    return query


def to_step(request: StepRequest, model: Model, limits: Limits) -> Query:
    """The query that a step of a session states; the session says where it begins.

    Raises:
        InvalidInput: as `to_query`, or there is more than one sequence, or a state.
        ReplyTooLarge, TraceTooLarge: the answer would have more bytes than the server makes.
    """
    if request.initial_state is not None:
        refuse("a step begins where the session stands: PUT …/state moves it elsewhere", "initial_state")
    query = to_query(request, model, limits)
    if len(query.inputs) != 1:
        message = f"there are {len(query.inputs)} sequences; a session is one stream"
        refuse(message, "inputs" if request.text is None else "text")
    if request.trace is None:
        return query
    return replace(query, trace=to_selection(request.trace, model, query, limits, "trace"))


def to_state(given: InitialState, *within: str) -> State:
    """The state of one sequence; raises `InvalidInput` where there are several."""
    for name in InitialState.model_fields:
        sequences = getattr(given, name).shape[1]
        if sequences != 1:
            message = f"has a batch of {sequences}, but a session is one stream; its axes are (layers, 1, unit)"
            refuse(message, *within, name)
    return State(*(torch.from_numpy(getattr(given, name)) for name in InitialState.model_fields))


def _check_reply_size(query: Query, model: Model, limits: Limits) -> None:
    """Refuse to make a prediction, output and states that are together larger than the server makes."""
    spec, batch_size = model.pipeline.spec_of(query.module), len(query.inputs)
    floats, shape = 0, model.pipeline.prediction_shape(query.inputs.shape[1])
    if query.prediction and shape is not None:
        *steps, width = shape
        floats += prod([query.horizon] if query.horizon else steps) * width
        floats *= 2 if model.labels else 1  # scores, and their probabilities
    if query.output:
        floats += query.longest * spec.output_size
    if query.final_state:
        floats += spec.state_entries * sum(spec.state_sizes)
    size.check_reply(batch_size * floats, limits.max_trace_bytes)


def _outputs(request: PredictRequest, model: Model) -> list[str]:
    if request.outputs is None:
        return ["prediction"] if model.manifest.task else ["output"]
    if "prediction" in request.outputs and model.manifest.task is None:
        message = f"model '{model.name}' is an LSTM without a head: it has output and final_state, no prediction"
        refuse(message, "outputs", request.outputs.index("prediction"))
    return list(request.outputs)


def _module(request: PredictRequest, model: Model) -> str | None:
    """The LSTM that the request names."""
    known = model.pipeline.lstms
    if request.module is not None and request.module not in known:
        near = get_close_matches(request.module[:LONGEST_TOKEN], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(map(repr, known))}"
        refuse(f"model '{model.name}' has no LSTM '{request.module[:LONGEST_TOKEN]}'; {hint}", "module")
    return request.module


def _initial_state(given: InitialState | None, model: Model, sequences: int) -> State | None:
    if given is None:
        return None
    if not model.pipeline.takes_initial_state:
        refuse(f"model '{model.name}' takes none: its forward has no parameter of this name", "initial_state")
    for name in InitialState.model_fields:
        batch_size = getattr(given, name).shape[1]
        if batch_size != sequences:
            axes = "(layers · directions, batch, unit)"
            message = f"has a batch of {batch_size}, but there are {sequences} sequences; its axes are {axes}"
            refuse(message, "initial_state", name)
    return State(*(torch.from_numpy(getattr(given, name)) for name in InitialState.model_fields))
