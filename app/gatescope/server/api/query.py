"""A validated request -> the engine's `Query`: what its fields mean together, for this model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from math import prod
from typing import NoReturn
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from gatescope import padding
from gatescope.decompose import Point
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline import size
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.pipeline.vocabulary import UnknownToken, Vocabulary
from gatescope.selection import Selection
from gatescope.server.api.limits import Limits
from gatescope.server.api.schema.requests import (
    ExplainRequest,
    InitialState,
    PredictRequest,
    StepRequest,
    TraceSelection,
)
from gatescope.server.api.schema.shapes import Expected, Loc
from gatescope.server.serving.chunking import can_trace_in_chunks
from gatescope.spec import Spec
from gatescope.state import State

LONGEST_TOKEN = 50  # in messages


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
    sequences = _sequences(request, model, limits)
    _check_lengths([len(sequence) for sequence in sequences], request, limits)
    inputs, lengths = padding.pad([torch.from_numpy(np.ascontiguousarray(sequence)) for sequence in sequences])
    wanted = _outputs(request, model)
    query = Query(
        inputs=inputs,
        sequence_lengths=lengths,
        initial_state=_initial_state(request.initial_state, model, len(sequences)),
        horizon=_horizon(request, model),
        future_inputs=_future_inputs(request, model, len(sequences)),
        prediction="prediction" in wanted,
        output="output" in wanted,
        final_state="final_state" in wanted,
        module=_module(request, model),
        most_bytes=limits.max_trace_bytes,
    )
    _check_reply_size(query, model, limits)
    return query


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


def to_point(request: ExplainRequest, model: Model, query: Query) -> Point:
    """The unit and time step that an explain request asks for.

    Raises:
        InvalidInput: there is more than one sequence, or it names what the model or the sequence does not have.
    """
    if len(query.inputs) != 1:
        message = f"there are {len(query.inputs)} sequences; a walk-through is of one"
        _refuse(message, "inputs" if request.text is None else "text")
    point = Point(request.layer, request.direction, request.time_step, request.unit)
    longest = _longest_run(model, query)
    with in_body():
        return point if longest is None else point.resolve(model.pipeline.spec_of(query.module), longest)


def to_step(request: StepRequest, model: Model, limits: Limits) -> Query:
    """The query that a step of a session states; the session says where it begins.

    Raises:
        InvalidInput: as `to_query`, or there is more than one sequence, or a state.
        ReplyTooLarge, TraceTooLarge: the answer would have more bytes than the server makes.
    """
    if request.initial_state is not None:
        _refuse("a step begins where the session stands: PUT …/state moves it elsewhere", "initial_state")
    query = to_query(request, model, limits)
    if len(query.inputs) != 1:
        message = f"there are {len(query.inputs)} sequences; a session is one stream"
        _refuse(message, "inputs" if request.text is None else "text")
    if request.trace is None:
        return query
    return replace(query, trace=to_selection(request.trace, model, query, limits, "trace"))


def to_state(given: InitialState, *within: str) -> State:
    """The state of one sequence; raises `InvalidInput` where there are several."""
    for name in InitialState.model_fields:
        sequences = getattr(given, name).shape[1]
        if sequences != 1:
            message = f"has a batch of {sequences}, but a session is one stream; its axes are (layers, 1, unit)"
            _refuse(message, *within, name)
    return State(*(torch.from_numpy(getattr(given, name)) for name in InitialState.model_fields))


class in_body:  # noqa: N801 - `with` this
    """Say of what is wrong with a query in the request's own words: its places stand in the body."""

    __slots__ = ("_within",)

    def __init__(self, *within: str) -> None:
        self._within = within

    def __enter__(self) -> None:
        """Nothing is wrong yet."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Place what is wrong."""
        if isinstance(error, InvalidInput):
            raise placed_in_body(error, *self._within) from None


def placed_in_body(error: InvalidInput, *within: str) -> InvalidInput:
    """The same of the places in the request's own words."""
    return InvalidInput.at(*(Place(("body", *within, *place.loc), place.message) for place in error.places))


def tokens_of(request: PredictRequest, model: Model) -> list[list[str]] | None:
    """What a model of tokens read, as it was written; None for a model of features."""
    if model.vocabulary is None:
        return None
    if request.text is not None:
        return [model.vocabulary.split(text) for text in _texts(request.text)]
    return [[model.vocabulary.entries[index] for index in sequence] for sequence in _cut(request)]


def _selected(request: TraceSelection, model: Model, query: Query, *within: str) -> Selection:
    """The part of the trace that a trace request asks for, however large.

    Raises:
        InvalidInput: it names what the model does not have.
    """
    spec, longest = model.pipeline.spec_of(query.module), _longest_run(model, query)
    selection = Selection(
        None if request.signals is None else tuple(request.signals),
        None if request.layers is None else tuple(request.layers),
        None if request.directions is None else tuple(request.directions),
        units_of(request.units, spec),
        _time(request),
    )
    with in_body(*within):
        resolved = selection.resolve(spec)
        if longest is not None:
            size.check_steps(resolved, longest)
    return resolved


def _check_reply_size(query: Query, model: Model, limits: Limits) -> None:
    """Refuse to make a prediction, output and states that are together larger than the server makes."""
    spec, batch_size = model.pipeline.spec_of(query.module), len(query.inputs)
    floats, shape = 0, model.pipeline.prediction_shape(query.inputs.shape[1])
    if query.prediction and shape is not None:
        *steps, width = shape
        floats += prod([query.horizon] if query.horizon else steps) * width
        floats *= 2 if model.labels else 1  # scores, and their probabilities
    if query.output:
        floats += _longest(query) * spec.output_size
    if query.final_state:
        floats += spec.state_entries * sum(spec.state_sizes)
    size.check_reply(batch_size * floats, limits.max_trace_bytes)


def _longest(query: Query) -> int:
    return query.inputs.shape[1] + query.horizon


def _longest_run(model: Model, query: Query) -> int | None:
    """Steps that the LSTM runs over; None where its time axis is its own, and shows only when it runs."""
    return _longest(query) if model.pipeline.module_inputs(query.module).aligned else None


def _sequences(request: PredictRequest, model: Model, limits: Limits) -> list[np.ndarray]:
    if request.inputs is None and request.text is None:
        _refuse("give either 'inputs' or 'text'" if model.reads_text else "'inputs' is missing", "inputs")
    if request.inputs is not None and request.text is not None:
        _refuse("give either 'inputs' or 'text', not both", "text")
    if request.text is not None:
        return _encode(request, model, limits)
    sequences = _cut(request)
    _check_categories(sequences, request, model)
    return sequences


def _cut(request: PredictRequest) -> list[np.ndarray]:
    """The sequences of `inputs`, without the padding where `sequence_lengths` says that there is some."""
    sequences: list[np.ndarray] = request.inputs or []
    lengths = request.sequence_lengths
    if lengths is None:
        return sequences
    if len(lengths) != len(sequences):
        _refuse(f"there are {len(lengths)} lengths for {len(sequences)} sequences", "sequence_lengths")
    longest = len(sequences[0])
    for index, sequence in enumerate(sequences):
        if len(sequence) != longest:
            message = "goes beside a padded, rectangular 'inputs', but these sequences differ in length"
            _refuse(message, "sequence_lengths")
        if not 1 <= lengths[index] <= longest:
            message = f"sequence length {lengths[index]} lies outside 1 to {longest}, the padded time steps"
            _refuse(message, "sequence_lengths", index)
    return [sequence[:length] for sequence, length in zip(sequences, lengths, strict=True)]


def _encode(request: PredictRequest, model: Model, limits: Limits) -> list[np.ndarray]:
    if model.vocabulary is None or not model.vocabulary.reads_text:
        reads = "features" if model.vocabulary is None else "token ids"
        _refuse(f"model '{model.name}' reads {reads}, not text: give 'inputs'", "text")
    if request.sequence_lengths is not None:
        _refuse("goes beside a padded 'inputs', not beside 'text'", "sequence_lengths")
    texts = _texts(request.text if request.text is not None else [])
    if not texts:
        _refuse("text has no sequences", "text")
    characters = sum(map(len, texts))
    if characters > limits.max_batch_steps:
        _refuse(f"has {characters:,} characters; this server takes at most {limits.max_batch_steps:,}", "text")
    return [_ids(text, model.vocabulary, _sent(request, index)) for index, text in enumerate(texts)]


def _ids(text: str, vocabulary: Vocabulary, loc: Loc) -> np.ndarray:
    tokens = vocabulary.split(text)
    if not tokens:
        _refuse("the text has no tokens", *loc)
    try:
        return np.array(vocabulary.encode(tokens), dtype=np.int64)
    except UnknownToken as error:
        what = "character" if vocabulary.kind == "characters" else "word"
        token = error.token[:LONGEST_TOKEN]
        _refuse(f"{what} {token!r} at position {error.index} is not in the model's vocabulary", *loc)


def _texts(text: str | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else text


def _check_categories(sequences: list[np.ndarray], request: PredictRequest, model: Model) -> None:
    inputs = model.manifest.input
    if not isinstance(inputs, FeatureInputs) or not inputs.has_categories:
        return
    if (place := _unknown_category(sequences, inputs)) is not None:
        _refuse(place.message, *_sent(request, *place.loc))


def _unknown_category(sequences: Sequence[np.ndarray], inputs: FeatureInputs) -> Place | None:
    """The same as of one sequence, of all at once; its place is (row, step, feature)."""
    place = inputs.unknown_category(np.concatenate(sequences))
    if place is None:
        return None
    ends = np.cumsum([len(sequence) for sequence in sequences])
    step, feature = (int(index) for index in place.loc)
    row = int(np.searchsorted(ends, step, side="right"))
    return Place((row, step - int(ends[row]) + len(sequences[row]), feature), place.message)


def _sent(request: PredictRequest, row: int | str, *within: int | str) -> Loc:
    """Where in what was sent a sequence stands, or a time step of it, or a feature of that."""
    if request.inputs is not None:
        return ("inputs", *request.inputs.loc(row, *within))
    return ("text",) if isinstance(request.text, str) else ("text", row)


def _check_lengths(lengths: list[int], request: PredictRequest, limits: Limits) -> None:
    field = "inputs" if request.inputs is not None else "text"
    further = request.horizon or 0
    with_horizon = f" (with {further} of the horizon)" if further else ""
    longest = max(lengths) + further
    if longest > limits.max_time_steps:
        index = lengths.index(max(lengths))
        message = (
            f"sequence has {longest:,} time steps{with_horizon}; this server takes at most {limits.max_time_steps:,}"
        )
        _refuse(message, *_sent(request, index))
    if longest * len(lengths) > limits.max_batch_steps:
        _refuse(
            f"{len(lengths):,} sequences of up to {longest:,} time steps{with_horizon} make a batch of "
            f"{longest * len(lengths):,} steps; this server takes at most {limits.max_batch_steps:,}",
            field,
        )


def _outputs(request: PredictRequest, model: Model) -> list[str]:
    if request.outputs is None:
        return ["prediction"] if model.manifest.task else ["output"]
    if "prediction" in request.outputs and model.manifest.task is None:
        message = f"model '{model.name}' is an LSTM without a head: it has output and final_state, no prediction"
        _refuse(message, "outputs", request.outputs.index("prediction"))
    return list(request.outputs)


def _module(request: PredictRequest, model: Model) -> str | None:
    """The LSTM that the request names."""
    known = model.pipeline.lstms
    if request.module is not None and request.module not in known:
        near = get_close_matches(request.module[:LONGEST_TOKEN], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(map(repr, known))}"
        _refuse(f"model '{model.name}' has no LSTM '{request.module[:LONGEST_TOKEN]}'; {hint}", "module")
    return request.module


def _initial_state(given: InitialState | None, model: Model, sequences: int) -> State | None:
    if given is None:
        return None
    if not model.pipeline.takes_initial_state:
        _refuse(f"model '{model.name}' takes none: its forward has no parameter of this name", "initial_state")
    for name in InitialState.model_fields:
        batch_size = getattr(given, name).shape[1]
        if batch_size != sequences:
            axes = "(layers · directions, batch, unit)"
            message = f"has a batch of {batch_size}, but there are {sequences} sequences; its axes are {axes}"
            _refuse(message, "initial_state", name)
    return State(*(torch.from_numpy(getattr(given, name)) for name in InitialState.model_fields))


def _horizon(request: PredictRequest, model: Model) -> int:
    if request.horizon is None:
        return 0
    if model.pipeline.horizon_refusal:
        _refuse(f"model '{model.name}' {model.pipeline.horizon_refusal}", "horizon")
    return request.horizon


def _future_inputs(request: PredictRequest, model: Model, sequences: int) -> Tensor | None:
    manifest, future = model.manifest, request.future_inputs
    if request.horizon is None:
        if future is not None:
            _refuse("goes with 'horizon'", "future_inputs")
        return None
    if not isinstance(manifest.input, FeatureInputs):
        if future is not None:
            _refuse(f"model '{model.name}' reads tokens; it has no features to know ahead", "future_inputs")
        return None
    names = manifest.input.names
    fed_back = manifest.output.fed_back(names)
    unknown = [name for index, name in enumerate(names) if index not in fed_back]
    if future is None:
        if unknown:
            _refuse(f"is missing: model '{model.name}' needs {', '.join(unknown)} of each future step", "future_inputs")
        return None
    alone = future.ndim == 2  # noqa: PLR2004
    rows = future[None] if alone else future  # (batch, step, feature)
    _check_future_shape(rows, request.horizon, sequences)
    place = _unknown_future(rows, names, fed_back) or _unknown_category(list(rows), manifest.input)
    if place is not None:
        _refuse(place.message, "future_inputs", *place.loc[alone:])
    return torch.from_numpy(rows)


def _check_future_shape(future: np.ndarray, horizon: int, sequences: int) -> None:
    if len(future) != sequences:
        _refuse(f"has a batch of {len(future)}, but there are {sequences} sequences", "future_inputs")
    if future.shape[1] != horizon:
        _refuse(f"has {future.shape[1]} steps, but the horizon is {horizon}", "future_inputs")


def _unknown_future(future: np.ndarray, names: list[str], fed_back: dict[int, int]) -> Place | None:
    """The first null where no prediction is fed back."""
    nulls = np.isnan(future)
    nulls[..., list(fed_back)] = False
    if not nulls.any():
        return None
    row, step, feature = (int(index) for index in np.argwhere(nulls)[0])
    message = f"'{names[feature]}' is null, but no prediction is fed back into it: it must be known"
    return Place((row, step, feature), message)


def units_of(units: list[int] | str | None, spec: Spec) -> tuple[int, ...] | None:
    """The units that a list or a slice names; None for all of them."""
    if isinstance(units, str):
        start, stop, step = (int(part) if part else None for part in (units + ":").split(":")[:3])
        return tuple(range(spec.hidden_size)[start:stop:step])
    return None if units is None else tuple(units)


def _time(request: TraceSelection) -> slice:
    if request.time is None:
        return slice(None)
    return slice(request.time.start, request.time.stop, request.time.step)


def _refuse(message: str, *loc: str | int) -> NoReturn:
    raise InvalidInput.at(Place(("body", *loc), message))
