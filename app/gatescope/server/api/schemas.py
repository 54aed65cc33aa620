"""The wire's types: what requests may say and what replies look like, with examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gatescope.server.api import fields
from gatescope.server.api.arrays import Axes, Sequences, located
from gatescope.server.api.leaves import FLOATS_OR_NULL
from gatescope.server.api.text import Text
from gatescope.server.api.units import Units

Signal = Literal["input_gate", "forget_gate", "cell_candidate", "output_gate", "cell_state", "hidden_state"]
Output = Literal["prediction", "output", "final_state"]
DEFAULT_LAYOUT: Literal["batch_time_feature"] = "batch_time_feature"


class Body(BaseModel):
    """The base of every request: strict types, no unknown fields."""

    model_config = ConfigDict(
        extra="forbid", strict=True, use_attribute_docstrings=True, arbitrary_types_allowed=True, frozen=True
    )

    @model_validator(mode="before")
    @classmethod
    def _know_every_field(cls, value: Any) -> Any:
        """Stop at unknown fields: they may be many."""
        with located():
            fields.check(value if isinstance(value, dict) else {}, cls.model_fields)
        return value


class InitialState(Body):
    """`nn.LSTM`'s (h0, c0) in its own layout: entry `layer * num_directions + direction` comes first."""

    hidden_state: Annotated[np.ndarray, Axes("layer_direction batch hidden_unit")]
    """(layers · directions, batch, proj_size or hidden_size)."""

    cell_state: Annotated[np.ndarray, Axes("layer_direction batch cell_unit")]
    """(layers · directions, batch, hidden_size)."""


class PredictRequest(Body):
    """A batch of sequences and what is wanted of it."""

    layout: Literal["batch_time_feature", "time_batch_feature"] = DEFAULT_LAYOUT
    """The order of the axes of `inputs`; `time_batch_feature` is `nn.LSTM`'s own default layout."""

    inputs: Sequences | None = None
    """A batch of sequences of time steps of features (they may differ in length), one sequence alone, or token ids."""

    text: Annotated[str | list[str], Text] | None = None
    """Instead of `inputs`, for models that read text: one text or several."""

    sequence_lengths: list[int] | None = Field(default=None, min_length=1, fail_fast=True)
    """The true length of each sequence of a padded, rectangular `inputs`."""

    initial_state: InitialState | None = None
    """Where the LSTM starts; zeros when not given."""

    outputs: list[Output] | None = Field(default=None, min_length=1, max_length=3)
    """What to answer: the `prediction` by default, or the `output` of a model without a head."""

    module: str | None = None
    """Of a model with several LSTMs: which one is looked at; the first that runs when not given."""

    horizon: int | None = Field(default=None, ge=1)
    """Feed predictions back for this many further steps: a forecast, or text that writes itself."""

    future_inputs: Annotated[np.ndarray, Axes("batch step feature", FLOATS_OR_NULL, optional_batch=True)] | None = None
    """The known features of those steps, of each sequence or of a lone one; null where the prediction is fed back."""


class TimeSlice(Body):
    """Time steps, as a Python slice."""

    start: int | None = None
    """The first step; negative counts from the end of the longest sequence."""
    stop: int | None = None
    """The step to stop before."""
    step: int | None = None
    """Every how many steps."""


class TraceSelection(Body):
    """Which part of a trace is wanted; replies keep the order asked for."""

    signals: list[Signal] | None = Field(default=None, min_length=1, max_length=6)
    """All six by default."""

    layers: list[int] | None = Field(default=None, max_length=1000, fail_fast=True)
    """Counted from 0; all by default."""

    directions: list[Literal["forward", "reverse"]] | None = Field(default=None, max_length=2)
    """All by default."""

    units: Annotated[list[int] | str, Units] | None = None
    """A list such as `[3, 17]` or a slice such as `"0:16"`; all by default."""

    time: TimeSlice | None = None
    """All steps by default."""


class TraceRequest(PredictRequest, TraceSelection):
    """A predict request and which part of its trace is wanted."""


class ExplainRequest(PredictRequest):
    """A predict request of one sequence, or a stored trace, and which unit to walk through which time step.

    It is answered with the walk-through alone, whatever `outputs` says.
    """

    trace_id: str | None = None
    """In place of the fields of a predict request: a trace of this model, as /v1/traces stored it."""

    sequence: int | None = None
    """Of the stored trace, counted from 0; needed where it has several."""

    layer: int = 0
    """Counted from 0."""

    direction: Literal["forward", "reverse"] = "forward"
    """Which of the layer's directions."""

    time_step: int
    """In input time; negative counts from the end, also over the steps of the horizon."""

    unit: int
    """Of the cell, counted from 0."""


class SessionRequest(Body):
    """A stateful stream that is to begin."""

    model: str
    """One that is not bidirectional."""

    version: str | None = None
    """The session stays on it; the one that answers by default when not given."""

    session_id: str | None = None
    """Up to 128 letters, digits or any of `_.:~-`; made up when not given."""

    initial_state: InitialState | None = None
    """Where the stream begins, with a batch of one; zeros when not given."""


class StepRequest(PredictRequest):
    """A predict request of one sequence: what is new of the stream, one time step or more."""

    trace: TraceSelection | None = None
    """Answer with the gates and states of these time steps, too."""

    step_number: int | None = Field(default=None, ge=0)
    """How many steps were taken before this one. The last one may be sent again: it is answered, not taken twice."""


class StoreTraceRequest(PredictRequest):
    """A predict request, whose trace is to be kept: all signals, layers, directions, units and time steps of it."""

    model: str
    """One of /v1/models."""

    version: str | None = None
    """The one that answers by default when not given."""


class ModelName(BaseModel):
    """Which model answered."""

    name: str
    version: str


class States(BaseModel):
    """A state in `nn.LSTM`'s layout, (layers · directions, batch, unit)."""

    hidden_state: list[list[list[float]]]
    cell_state: list[list[list[float]]]


class PredictionReply(BaseModel):
    """What the model says, ragged: every sequence has its true length."""

    values: list[Any] = Field(description="[batch][step][value], or [batch][value] for one prediction per sequence")
    labels: list[Any] | None = Field(default=None, description="the likeliest label or token, [batch][step] or [batch]")
    probabilities: list[Any] | None = Field(default=None, description="of every label, in the model's order")
    text: list[str] | None = Field(default=None, description="what a model of text wrote with `horizon`, per sequence")


class PredictReply(BaseModel):
    """The answer to a predict request."""

    model: ModelName
    sequence_lengths: list[int]
    tokens: list[list[str]] | None = Field(default=None, description="what a model of tokens read, per sequence")
    prediction: PredictionReply | None = None
    output: list[list[list[float]]] | None = Field(default=None, description="[batch][time][directions · unit]")
    final_state: States | None = None


class TraceReply(PredictReply):
    """The answer to a trace request."""

    module: str = Field(description="the LSTM that was traced, as ModelInfo names it")
    axes: list[str]
    layers: list[int]
    directions: list[str]
    units: list[int]
    time_steps: list[int]
    signals: dict[str, list[list[list[list[list[float]]]]]] = Field(
        description="[batch][layer][direction][time][unit] under each signal's name"
    )
    initial_state: States
    residual: float = Field(
        description="max |hidden_state of the fused kernel − output_gate·tanh(cell_state)| over the whole trace"
    )


class StoredTraceReply(BaseModel):
    """A trace that is kept."""

    trace_id: str
    shape: list[int] = Field(description="(batch, layer, direction, time, unit)")
    bytes: int = Field(description="all that is kept of it")
    expires_at: float = Field(description="Unix seconds: when it is dropped if nobody looks at it until then")


class StoredTraceInfo(StoredTraceReply, PredictReply):
    """A trace reply without the signals."""

    module: str = Field(description="the LSTM that was traced, as ModelInfo names it")
    axes: list[str]
    layers: list[int]
    directions: list[str]
    units: list[int]
    time_steps: list[int]
    inputs: list[list[list[float]]] | None = Field(
        default=None,
        description="(batch, time, feature): what a model of features read, the steps of a horizon included; left out "
        "where the traced LSTM has time steps of its own",
    )
    initial_state: States
    residual: float = Field(description="as in a trace reply, of the whole trace")


class TraceValuesReply(TraceReply):
    """The answer to a look at a stored trace."""

    time_steps: list[int] = Field(description="with `bins`, the first step of each span")
    bins: int | None = Field(default=None, description="how many spans there are; absent without `bins`")
    reduce: Literal["mean", "min", "max"] | None = Field(default=None, description="absent without `bins`")


class SessionReply(BaseModel):
    """A stateful stream, as it stands."""

    session_id: str
    model: ModelName
    steps: int = Field(description="how many were taken, which is the next one's `step_number`")
    time_steps: int = Field(description="of all steps together")
    created_at: float = Field(description="Unix seconds")
    expires_at: float = Field(description="Unix seconds: when it ends, if there is no other step before that")


class SessionList(BaseModel):
    """Every session that is open."""

    sessions: list[SessionReply]


class StepTraceReply(BaseModel):
    """What happened inside during a step."""

    module: str
    axes: list[str]
    layers: list[int]
    directions: list[str]
    units: list[int]
    time_steps: list[int] = Field(description="counted from the beginning of this step")
    signals: dict[str, list[list[list[list[list[float]]]]]]
    initial_state: States
    final_state: States
    residual: float


class StepReply(PredictReply):
    """The answer to a step."""

    session_id: str
    steps: int = Field(description="taken until now, this one included")
    trace: StepTraceReply | None = None


class ContributionReply(BaseModel):
    """What one input, or one unit of the step before, adds to a gate."""

    name: str
    value: float = Field(description="what comes in: x as the LSTM is fed it, or h")
    weight: float
    contribution: float = Field(description="weight · value")


class GateReply(BaseModel):
    """One gate: activation(W_i·x_t + W_h·h_{t−1} + biases)."""

    input_contribution: float = Field(description="W_i·x_t")
    recurrent_contribution: float = Field(description="W_h·h_{t−1}")
    bias_input: float | None = Field(description="null for an LSTM without bias")
    bias_recurrent: float | None = Field(description="null for an LSTM without bias")
    sum: float
    activation: Literal["sigmoid", "tanh"]
    value: float
    formula: str = Field(description="the same in numbers, rounded")
    largest_inputs: list[ContributionReply] = Field(description="at most 8, the largest first")
    largest_recurrent: list[ContributionReply] = Field(description="at most 8, the largest first")


class GatesReply(BaseModel):
    """The four gates."""

    input_gate: GateReply
    forget_gate: GateReply
    cell_candidate: GateReply
    output_gate: GateReply


class CellUpdateReply(BaseModel):
    """c_t = f·c_{t−1} + i·g."""

    forget_gate: float
    previous_cell_state: float
    kept: float = Field(description="f·c_{t−1}")
    input_gate: float
    cell_candidate: float
    written: float = Field(description="i·g")
    cell_state: float
    formula: str


class HiddenUpdateReply(BaseModel):
    """h_t = o·tanh(c_t)."""

    output_gate: float
    cell_state: float
    tanh_cell_state: float
    hidden_state: float | None = Field(description="o·tanh(c_t); null where a projection mixes the units")
    unprojected_hidden_state: float | None = Field(description="o·tanh(c_t) before the projection; null without one")
    projected_hidden_state: list[float] | None = Field(description="what all units give after it; null without one")
    formula: str


class ExplainReply(BaseModel):
    """One unit at one time step, with every number."""

    model: ModelName
    module: str = Field(description="the LSTM that is explained, as ModelInfo names it")
    layer: int
    direction: Literal["forward", "reverse"]
    time_step: int = Field(description="counted from the start")
    previous_time_step: int | None = Field(
        description="the step that h_{t−1} and c_{t−1} come from, the later one for `reverse`; null: the initial state"
    )
    unit: int
    inputs: dict[str, float] | None = Field(description="the raw features of this step; null for a model of tokens")
    token: str | None = Field(description="the token of this step; null for a model of features")
    gates: GatesReply
    cell_update: CellUpdateReply
    hidden_update: HiddenUpdateReply
    residual: float = Field(description="max |walk-through − trace| of this unit's cell state and hidden state")


class LSTMInfo(BaseModel):
    """The arguments of the model's `nn.LSTM`."""

    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    proj_size: int


class SignalInfo(BaseModel):
    """A quantity that a trace of the model shows."""

    name: str
    symbol: str
    low: float | None = Field(description="the least value that it can take; null where there is none")
    high: float | None = Field(description="the greatest value that it can take; null where there is none")
    description: str


class NamedLSTMInfo(LSTMInfo):
    """One of the model's LSTMs; `module` in a request chooses it."""

    name: str
    cell: str
    signals: list[SignalInfo]


class InputInfo(BaseModel):
    """What the model takes."""

    kind: Literal["features", "tokens"]
    feature_names: list[str] | None = None
    vocabulary_size: int | None = None
    text: bool = Field(description="whether it reads `text`")


class OutputInfo(BaseModel):
    """What the model gives: its task, or `output` for an LSTM alone."""

    kind: str
    names: list[str] | None = None
    labels: list[str] | None = None
    predicts: Literal["same_step", "next_step"] | None = Field(
        default=None, description="of which step the prediction at step t is; null for a classification"
    )


class ExampleInfo(BaseModel):
    """A complete predict body to try."""

    title: str
    request: dict[str, Any]


class ModelInfo(BaseModel):
    """A model, or why it cannot be used."""

    name: str
    version: str | None
    versions: list[str]
    state: Literal["ready", "loading", "unavailable"]
    reason: str | None = Field(default=None, description="why it is not ready, or not what lies on disk")
    description: str | None = None
    task: str | None = None
    device: str | None = None
    dtype: str | None = None
    parameters: int | None = None
    trace_method: str | None = Field(
        default=None, description="the backend that computes its gates: workspace, replay or loop"
    )
    cell: str | None = Field(default=None, description="the recurrent cell: lstm")
    signals: list[SignalInfo] = Field(default=[], description="what a trace of the model shows, in order")
    lstm: LSTMInfo | None = None
    lstms: list[NamedLSTMInfo] = Field(default=[], description="all of them; `lstm` is the first")
    input: InputInfo | None = None
    output: OutputInfo | None = None
    examples: list[ExampleInfo] = []


class UploadReply(ModelInfo):
    """The version that an upload made."""

    notes: list[str] = Field(description="what was found in the checkpoint, and what was guessed")


class ModelList(BaseModel):
    """Every model of the server."""

    models: list[ModelInfo]


class Health(BaseModel):
    """How the service is."""

    status: Literal["live", "ready"]
