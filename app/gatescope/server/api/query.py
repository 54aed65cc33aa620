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
from gatescope.pipeline.features import FeatureInputs, Features
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.server.api.edits import FindTrace, edited, interventions_of
from gatescope.server.api.horizon import future_inputs_of, horizon_of
from gatescope.server.api.limits import Limits
from gatescope.server.api.places import refuse
from gatescope.server.api.sampling import sampling_of
from gatescope.server.api.schema.elements import INPUTS, LARGEST, STATIC
from gatescope.server.api.schema.module_states import MODULES, article
from gatescope.server.api.schema.requests import InitialState, PredictRequest, StepRequest
from gatescope.server.api.schema.shapes import Expected
from gatescope.server.api.selections import to_selection
from gatescope.server.api.sequences import LONGEST_TOKEN, check_lengths, sequences_of
from gatescope.server.api.static_inputs import require, static_inputs_of
from gatescope.server.serving import states
from gatescope.spec import Spec
from gatescope.state import State

_EXPECTED: WeakKeyDictionary[Model, Expected] = WeakKeyDictionary()


def expected(model: Model) -> Expected:
    """How long the axes of a request's arrays must be for this model."""
    known = _EXPECTED.get(model)
    if known is None:
        known = _EXPECTED[model] = _expected(model)
    return known


def _expected(model: Model) -> Expected:
    inputs, static = model.manifest.input, model.manifest.static
    lone, doubles = _expected_states(model.name, model.spec), dict[str, float]()
    takes_gaps, stated = isinstance(inputs, FeatureInputs) and inputs.takes_gaps, None
    sizes = dict(lone.sizes)
    if isinstance(inputs, FeatureInputs):
        sizes["feature"] = len(inputs.features)
        stated = len(inputs.stated) if inputs.derived and inputs.stated else None
        if inputs.is_scaled:
            doubles[INPUTS] = _largest(inputs)
    if static is not None:
        sizes["static_feature"], doubles[STATIC] = len(static.features), _largest(static)
    if model.vocabulary is not None:
        sizes["vocabulary"] = len(model.vocabulary)
    modules = {}
    if states.has_several_modules(model):
        modules = {name: _expected_states(model.name, spec) for name, spec in model.pipeline.state_modules.items()}
    return replace(
        lone,
        kind=inputs.kind,
        sizes=sizes,
        doubles=doubles,
        modules=modules,
        stated_features=stated,
        takes_gaps=takes_gaps,
    )


def _expected_states(model: str, spec: Spec) -> Expected:
    """The states of one recurrent module."""
    sizes = {
        "layer_direction": spec.state_entries,
        "hidden_unit": spec.hidden_state_size,
        "cell_unit": spec.hidden_size,
    }
    return Expected(model, sizes=sizes, cell=spec.cell.name, states=spec.cell.states)


def _largest(features: Features) -> float:
    """How large each raw value may be, so that it is within float32 before and after it is scaled."""
    scaled = [LARGEST * feature.std - abs(feature.mean) for feature in features.features]
    return max(0.0, min(LARGEST, *scaled))


def to_query(request: PredictRequest, model: Model, limits: Limits, *, goes_on: bool = False) -> Query:
    """The query that a predict request states.

    Args:
        request: validated.
        model: is asked.
        limits: the operator's.
        goes_on: whether it goes on from an earlier step of a session, which has static inputs and earlier values.

    Raises:
        InvalidInput: fields that do not go together or do not fit the model; the place is named.
        ReplyTooLarge: the answer would have more bytes than the server makes.
    """
    sequences = sequences_of(request, model, limits, goes_on=goes_on)
    check_lengths([len(sequence) for sequence in sequences], request, model, limits)
    inputs, lengths = padding.pad([torch.from_numpy(np.ascontiguousarray(sequence)) for sequence in sequences])
    wanted = _outputs(request, model)
    static_inputs = static_inputs_of(request.static_inputs, request.static_columns, model, len(sequences))
    if not goes_on:
        require(static_inputs, model)
    query = Query(
        inputs=inputs,
        sequence_lengths=lengths,
        initial_state=_initial_state(request.initial_state, model, len(sequences)),
        horizon=horizon_of(request, model),
        sampling=sampling_of(request, model),
        future_inputs=future_inputs_of(request, model, sequences),
        static_inputs=static_inputs,
        prediction="prediction" in wanted,
        output="output" in wanted,
        final_state="final_state" in wanted,
        module=_module(request, model),
        most_bytes=limits.max_trace_bytes,
    )
    _check_beginning(query, model)
    check_reply_size(query, model, limits)
    return query


def to_step(request: StepRequest, model: Model, limits: Limits, find: FindTrace) -> Query:
    """The query that a step of a session states; the session says where it begins.

    Args:
        request: validated.
        model: is asked.
        limits: the operator's.
        find: gives a stored trace that is there for whoever asks.

    Raises:
        InvalidInput: as `to_query`, or there is more than one sequence, or a state.
        TraceNotFound: an intervention names one that is not there.
        ReplyTooLarge, TraceTooLarge: the answer would have more bytes than the server makes.
    """
    if request.initial_state is not None:
        refuse("a step begins where the session stands: PUT …/state moves it elsewhere", "initial_state")
    if request.static_inputs is not None:
        refuse("a session has those that it was opened with, and each step reads them", "static_inputs")
    query = to_query(request, model, limits, goes_on=True)
    if len(query.inputs) != 1:
        message = f"there are {len(query.inputs)} sequences; a session is one stream"
        refuse(message, "inputs" if request.text is None else "text")
    if request.interventions is not None:
        query = edited(query, interventions_of(request.interventions, query, model, find), model, limits)
    if request.trace is None:
        return query
    return traced(query, to_selection(request.trace, model, query, limits, "trace"), model)


def traced(query: Query, selection: Selection, model: Model) -> Query:
    """The same query with a trace, whose reply tells the final states of all modules."""
    final_state = query.final_state or states.has_several_modules(model)
    return replace(query, trace=selection, final_state=final_state)


def to_state(given: InitialState, model: Model, *within: str) -> State:
    """The state of one sequence; raises `InvalidInput` where there are several."""
    return _joined(
        given, model, 1, "has a batch of {}, but a session is one stream; its axes are (layers, 1, unit)", *within
    )


def check_reply_size(query: Query, model: Model, limits: Limits, times: int = 1) -> None:
    """Refuse to make predictions, output and states that are so many times larger than the server makes at most."""
    pipeline, floats = model.pipeline, 0
    if query.prediction:
        floats += sum(_floats_of(head, query, model) for head in list(pipeline.heads)[: 1 if query.horizon else None])
    if query.sampling is not None:  # a step's scores, and the tokens, of each further sample
        floats += (query.sampling.samples - 1) * (len(model.labels) + query.horizon)
    if query.output:
        floats += query.longest * pipeline.spec_of(query.module).output_size
    if query.final_state:
        floats += pipeline.state_spec.state_entries * sum(pipeline.state_spec.state_sizes)
    size.check_reply(times * query.sequences * floats, limits.max_trace_bytes)


def _floats_of(head: str, query: Query, model: Model) -> int:
    """How many numbers the prediction of a head has for each sequence: the values, and their probabilities."""
    shape = model.pipeline.prediction_shape(query.inputs.shape[1], head)
    if shape is None:
        return 0
    *steps, width = shape
    labels = len(model.labels_of(head))
    return prod([query.horizon] if query.horizon else steps) * (width + labels)


def _outputs(request: PredictRequest, model: Model) -> list[str]:
    if request.outputs is None:
        return ["prediction"] if model.manifest.heads else ["output"]
    if "prediction" in request.outputs and not model.manifest.heads:
        refuse(no_prediction(model), "outputs", request.outputs.index("prediction"))
    return list(request.outputs)


def no_prediction(model: Model) -> str:
    """Why a model without a head predicts nothing."""
    missing = [f"'{each.name}' ({each.kind})" for each in model.manifest.not_computed if each.place == "behind"]
    if not missing:
        cell = model.spec.cell.name.upper()
        what = f"{article(cell)} {cell} without a head"
        return f"model '{model.name}' is {what}: it has output and final_state, no prediction"
    return (
        f"model '{model.name}' predicts nothing, it has output and final_state only: behind its recurrent layers stand "
        f"weights that are not computed, {', '.join(missing)}. Import it with --sample or --layers, serve it as a "
        "custom module, or use --ignore NAME if the predictions do not depend on it"
    )


def _module(request: PredictRequest, model: Model) -> str | None:
    """The recurrent module that the request names."""
    known = model.pipeline.lstms
    if request.module is not None and request.module not in known:
        near = get_close_matches(request.module[:LONGEST_TOKEN], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(map(repr, known))}"
        cells = {model.pipeline.spec_of(name).cell.name.upper() for name in known}
        kind = cells.pop() if len(cells) == 1 else "recurrent module"
        refuse(f"model '{model.name}' has no {kind} '{request.module[:LONGEST_TOKEN]}'; {hint}", "module")
    return request.module


def _initial_state(given: InitialState | None, model: Model, sequences: int) -> State | None:
    if given is None:
        return None
    if not model.pipeline.takes_initial_state:
        refuse(f"model '{model.name}' takes none: {model.pipeline.takes_no_state}", "initial_state")
    axes = "(layers · directions, batch, unit)"
    message = f"has a batch of {{}}, but there are {sequences} sequences; its axes are {axes}"
    return _joined(given, model, sequences, message, "initial_state")


def _check_beginning(query: Query, model: Model) -> None:
    """Refuse a state before steps that are not read."""
    window, longest = model.pipeline.pooled_window, int(query.sequence_lengths.max())
    if window is not None and query.initial_state is not None and longest > window:
        message = f"of {longest:,} time steps the model reads the last {window:,}; the state before them is not known"
        refuse(f"{message}: leave it out, or send at most {window:,} time steps", "initial_state")


def _joined(given: InitialState, model: Model, sequences: int, message: str, *within: str) -> State:
    """The state that is carried, of the states of each module; `message` has a place for a wrong batch size."""
    joined: dict[str | None, State] = {}
    for module, parts in given.parts.items():  # in the order of the cell's states
        for name, values in parts.items():
            if values.shape[1] != sequences:
                place = () if module is None else (MODULES, module)
                refuse(message.format(values.shape[1]), *within, *place, name)
        joined[module] = State(*map(torch.from_numpy, parts.values()))
    return joined[None] if None in joined else model.pipeline.join_states(joined)  # type: ignore[arg-type]
