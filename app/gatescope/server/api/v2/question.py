"""A message -> what is asked of a model: the query, and which tensors go out. Then the answer -> these tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple, NoReturn

import numpy as np
import orjson

from gatescope.cells import SIGNAL_NAMES
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.heads import FIRST
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.api import body, query, selections, sequences
from gatescope.server.api.limits import Limits
from gatescope.server.api.notes import notes_of
from gatescope.server.api.schema.elements import INPUTS
from gatescope.server.api.schema.module_states import lacks
from gatescope.server.api.schema.requests import PredictRequest, TraceRequest
from gatescope.server.api.schema.shapes import Loc, ShapeError
from gatescope.server.api.v2 import signature, tensors
from gatescope.server.api.v2.message import Message, Output
from gatescope.server.api.v2.schemas import InferParameters, InferRequest, InputTensor
from gatescope.server.api.v2.signature import FINAL_STATES, OTHER_HEADS, STATES, TensorInfo
from gatescope.server.serving.states import has_several_modules
from gatescope.server.serving.stored import Note

_OUTPUTS = {FIRST: "prediction", "output": "output"} | dict.fromkeys(FINAL_STATES, "final_state")
"""What a predict request calls them."""

_CELL_NAMES = frozenset(SIGNAL_NAMES)
"""Every signal and state of any cell."""

_IN_JSON = {"columns": "a list of names", "static_columns": "a list of names", "sampling": "an object"}
"""Parameters that are fields of a predict request, written as JSON, and what each is."""

_WRITING = frozenset({"horizon", "sampling"})
"""Parameters of models that write tokens."""

_LONGEST_NAME = 64
_FLOAT_BYTES, _ID_BYTES = 4, 8


class Question(NamedTuple):
    """What is asked of a model."""

    query: Query
    wanted: dict[str, bool]
    """The outputs in their order, and whether each is to be in binary."""
    notes: tuple[Note, ...] = ()
    """What was assumed when the message was read."""

    @property
    def predicts(self) -> bool:
        """Whether a prediction goes out."""
        return any(name == FIRST or name.startswith(OTHER_HEADS) for name in self.wanted)

    def outputs(self, answer: Answer) -> list[Output]:
        """What of the answer goes out."""
        return [Output(name, _values(answer, name), binary) for name, binary in self.wanted.items()]


def from_message(message: Message, model: Model, limits: Limits, *, goes_on: bool = False) -> Question:
    """What a message asks of this model; every check of a predict or trace request holds here, too.

    Args:
        message: the request.
        model: is asked.
        limits: the operator's.
        goes_on: whether it is a later step of a sequence, which has static inputs and earlier values.

    Raises:
        InvalidInput: the model does not take or give such tensors; the tensor and the place in it are named.
        ReplyTooLarge, TraceTooLarge: the answer would have more bytes than the server makes.
    """
    wanted = _wanted(message.request, model)
    fields = _fields(message, model, limits)
    expected = query.expected(model).within(limits)
    signals = [name for name in wanted if name in model.spec.cell.signal_names]
    plain = list(dict.fromkeys(_field_of(name) for name in wanted if name not in signals))
    if not signals:
        asked = body.validate(fields, PredictRequest, expected).model_copy(update={"outputs": plain})
        stated = query.to_query(asked, model, limits, goes_on=goes_on)
        return Question(stated, wanted, _notes_of(asked, model))
    traced = body.validate(fields | {"signals": signals}, TraceRequest, expected).model_copy(update={"outputs": plain})
    untraced = query.to_query(traced, model, limits, goes_on=goes_on)
    selection = selections.to_selection(traced, model, untraced, limits)
    return Question(query.traced(untraced, selection, model), wanted, _notes_of(traced, model))


def _field_of(output: str) -> str:
    """What a predict request calls an output that is no signal."""
    return _OUTPUTS.get(output, _OUTPUTS[FIRST])


def _notes_of(asked: PredictRequest, model: Model) -> tuple[Note, ...]:
    """The notes, their places in the tensors."""
    tokens = None if asked.text is None else sequences.tokens_of(asked, model)
    notes = notes_of(asked, model, tokens)
    return tuple({**note, "loc": _in_tensor(note["loc"])} if "loc" in note else note for note in notes)


def raw(content: bytes, model: Model) -> Message:
    """The message whose one input these bytes are: one text, or one sequence of features or of token ids.

    Raises:
        InvalidInput: they cannot be.
    """
    inputs = model.manifest.input
    if model.reads_text:
        try:
            return _of_one(InputTensor(name="text", shape=[1], datatype="BYTES", data=[content.decode()]), None)
        except UnicodeDecodeError as error:
            _refuse(f"is no UTF-8 text: {error.reason}", "text")
    if isinstance(inputs, FeatureInputs):
        width = len(inputs.features)
        step, datatype, sizes = width * _FLOAT_BYTES, "FP32", [width]
    else:
        step, datatype, sizes = _ID_BYTES, "INT64", []
    if len(content) % step:
        _refuse(f"has {len(content):,} bytes; a time step of {datatype} has {step}", "inputs")
    tensor = InputTensor(name="inputs", shape=[1, len(content) // step, *sizes], datatype=datatype)
    return _of_one(tensor, memoryview(content))


@contextmanager
def in_tensors() -> Iterator[None]:
    """Say of what is wrong with a query at which place of which tensor it stands."""
    try:
        yield
    except InvalidInput as error:
        if not error.places:
            raise
        raise InvalidInput.at(*(Place(_in_tensor(place.loc), place.message) for place in error.places)) from None


def _of_one(tensor: InputTensor, content: memoryview | None) -> Message:
    return Message(InferRequest(inputs=[tensor]), [content])


def _values(answer: Answer, name: str) -> np.ndarray:
    """An output, (batch, …), NaN in the padding."""
    if name == FIRST and answer.prediction is not None:
        return answer.prediction.values.numpy()
    if name.startswith(OTHER_HEADS) and answer.heads is not None:
        return answer.heads[name.removeprefix(OTHER_HEADS)].values.numpy()
    if name == "output" and answer.output is not None:
        return answer.output.numpy()
    if name in FINAL_STATES and answer.final_state is not None:
        part = answer.final_state.named()[FINAL_STATES[name]]  # (layers · directions, batch, unit)
        values: np.ndarray = part.transpose(0, 1).numpy()
        return values
    if answer.trace is not None:
        return answer.trace.signals[name].numpy()
    raise TypeError(f"the answer holds no {name}")


def _wanted(request: InferRequest, model: Model) -> dict[str, bool]:
    given = signature.outputs(model)
    binary = request.parameters is not None and request.parameters.binary_data_output
    if not request.outputs:
        return {FIRST if FIRST in given else "output": binary}
    wanted: dict[str, bool] = {}
    for output in request.outputs:
        if output.name not in given:
            _refuse(_no_output(output.name, model, given), "outputs")
        if output.name in wanted:
            _refuse(f"'{output.name}' is asked for twice", "outputs")
        stated = output.parameters
        if stated is not None and stated.shared_memory_region is not None:
            _refuse("this server writes no shared memory: ask for binary data", output.name)
        if stated is not None and stated.classification:
            _refuse("this server ranks no classes: 'prediction' has the scores of all", output.name)
        wanted[output.name] = binary if stated is None or stated.binary_data is None else stated.binary_data
    return wanted


def _fields(message: Message, model: Model, limits: Limits) -> dict[str, Any]:
    """The tensors as the fields of a predict request."""
    taken, fields = signature.inputs(model), dict[str, Any]()
    for tensor, content in zip(message.request.inputs, message.binary, strict=True):
        if (info := taken.get(tensor.name)) is None:
            _refuse(_no_input(tensor.name, model, taken), "inputs")
        if tensor.name in fields:
            _refuse("is given twice", tensor.name)
        _check(tensor, content, info, model, limits)
        fields[tensor.name] = _read(tensor, content, nulls=tensor.name == INPUTS and query.expected(model).takes_gaps)
    if "sequence_lengths" in fields:
        fields["sequence_lengths"] = fields["sequence_lengths"].tolist()
    parameters = message.request.parameters
    if parameters is not None:
        fields |= _stated(parameters, model)
    states = {part: fields.pop(name).swapaxes(0, 1) for name, part in STATES.items() if name in fields}
    return fields | ({"initial_state": states} if states else {})


def _stated(parameters: InferParameters, model: Model) -> dict[str, Any]:
    """The fields of a predict request that stand among the parameters."""
    if parameters.horizon is None:
        stated = dict[str, Any]()
    elif model.pipeline.task == "next_token":
        stated = {"horizon": parameters.horizon}
    else:
        _refuse(f"model '{model.name}' writes no tokens: /v1 takes the horizon of a forecast", "parameters", "horizon")
    texts = {name: getattr(parameters, name) for name in _IN_JSON}
    return stated | {name: _json_in(text, name) for name, text in texts.items() if text is not None}


def _check(tensor: InputTensor, content: memoryview | None, info: TensorInfo, model: Model, limits: Limits) -> None:
    """Refuse a tensor that is not of the kind that a model takes, before its elements are looked at."""
    if tensor.parameters is not None and tensor.parameters.shared_memory_region is not None:
        _refuse("this server reads no shared memory: send the data", tensor.name)
    if content is not None and tensor.data is not None:
        _refuse("comes with 'data' and with 'binary_data_size': give one of them", tensor.name)
    readable = tensors.READ_AS[info.datatype]
    if tensor.datatype not in readable:
        others = f" or one of {', '.join(readable)}" if len(readable) > 1 else ""
        _refuse(
            f"comes as {tensor.datatype[:_LONGEST_NAME]}; model '{model.name}' takes {info.datatype}{others}",
            tensor.name,
        )
    if not info.fits(tensor.shape):
        _refuse(f"has shape {tensor.shape}; model '{model.name}' takes {info.axes}", tensor.name)
    if 0 in tensor.shape:
        axis = list(info.sizes)[tensor.shape.index(0)]
        _refuse(f"has shape {tensor.shape}: its axis '{axis}' is empty", tensor.name)
    if tensor.shape[0] > limits.max_batch_steps:
        most = f"this server takes at most {limits.max_batch_steps:,}"
        _refuse(f"has {tensor.shape[0]:,} sequences; {most}", tensor.name)


def _read(tensor: InputTensor, content: memoryview | None, *, nulls: bool) -> tensors.Array:
    try:
        if content is None:
            return tensors.from_json(tensor.data, tensor.datatype, tensor.shape, nulls=nulls)
        return tensors.from_binary(content, tensor.datatype, tensor.shape)
    except ShapeError as error:
        raise InvalidInput.at(*(Place((tensor.name, *loc), message) for loc, message in error.places)) from None


def _in_tensor(loc: Loc) -> Loc:
    """A place in a predict request as a place in a tensor, in which the batch comes first."""
    loc = loc[1:] if loc[0] == "body" and len(loc) > 1 else loc
    if loc[0] == "session_id":
        return ("parameters", "sequence_id")
    if loc[0] in _WRITING:
        return ("parameters", *loc)
    if loc[0] != "initial_state" or len(loc) == 1:
        return loc
    name = next((name for name, part in STATES.items() if part == loc[1]), "initial_state")
    return (name, *loc[3:1:-1], *loc[4:])


def _json_in(text: str, name: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        _refuse(f"must be {_IN_JSON[name]} in JSON", "parameters", name)


def _no_output(name: str, model: Model, given: dict[str, TensorInfo]) -> str:
    if name == FIRST and model.manifest.not_computed:
        return query.no_prediction(model)
    if name in FINAL_STATES and has_several_modules(model):
        return f"model '{model.name}' has several recurrent modules: /v1 gives their states, by name"
    if FINAL_STATES.get(name, name) in _CELL_NAMES - set(model.spec.cell.signal_names):
        return lacks(f"model '{model.name}'", model.spec.cell.name, FINAL_STATES.get(name, name))
    return f"model '{model.name}' has no output '{name[:_LONGEST_NAME]}'; {_hint(name, given)}"


def _no_input(name: str, model: Model, taken: dict[str, TensorInfo]) -> str:
    if name in STATES and has_several_modules(model):
        return f"model '{model.name}' has several recurrent modules: /v1 takes their states, by name"
    if name in STATES and model.pipeline.takes_initial_state:
        return lacks(f"model '{model.name}'", model.spec.cell.name, STATES[name])
    return f"model '{model.name}' has no input '{name[:_LONGEST_NAME]}'; {_hint(name, taken)}"


def _hint(name: str, known: dict[str, TensorInfo]) -> str:
    near = get_close_matches(name[:_LONGEST_NAME], known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known)}"


def _refuse(message: str, *loc: str | int) -> NoReturn:
    raise InvalidInput.at(Place(loc, message))
