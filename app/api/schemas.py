"""The wire's types: what requests may say and what replies look like, with examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from app.api.arrays import Axes, Sequences

Signal = Literal["input_gate", "forget_gate", "cell_candidate", "output_gate", "cell_state", "hidden_state"]
Output = Literal["prediction", "output", "final_state"]


class Body(BaseModel):
    """The base of every request: strict types, no unknown fields."""

    model_config = ConfigDict(
        extra="forbid", strict=True, use_attribute_docstrings=True, arbitrary_types_allowed=True, frozen=True
    )


class InitialState(Body):
    """`nn.LSTM`'s (h0, c0) in its own layout: entry `layer * num_directions + direction` comes first."""

    hidden_state: Annotated[np.ndarray, Axes("layer_direction batch hidden_unit")]
    """(layers · directions, batch, proj_size or hidden_size)."""

    cell_state: Annotated[np.ndarray, Axes("layer_direction batch cell_unit")]
    """(layers · directions, batch, hidden_size)."""


class PredictRequest(Body):
    """A batch of sequences and what is wanted of it."""

    layout: Literal["batch_time_feature", "time_batch_feature"] = "batch_time_feature"
    """The order of the axes of `inputs`; `time_batch_feature` is `nn.LSTM`'s own default layout."""

    inputs: Annotated[list[np.ndarray], Sequences] | None = None
    """A batch of sequences of time steps of features (they may differ in length), one sequence alone, or token ids."""

    text: str | list[str] | None = None
    """Instead of `inputs`, for models that read text: one text or several."""

    sequence_lengths: list[int] | None = Field(default=None, min_length=1)
    """The true length of each sequence of a padded, rectangular `inputs`."""

    initial_state: InitialState | None = None
    """Where the LSTM starts; zeros when not given."""

    outputs: list[Output] | None = Field(default=None, min_length=1)
    """What to answer: the `prediction` by default, or the `output` of a model without a head."""

    horizon: int | None = Field(default=None, ge=1)
    """Feed predictions back for this many further steps: a forecast, or text that writes itself."""

    future_inputs: Annotated[np.ndarray, Axes("batch step feature", nulls=True, optional_batch=True)] | None = None
    """The known features of those steps; null where the prediction is fed back."""


class TimeSlice(Body):
    """Time steps, as a Python slice."""

    start: int | None = None
    """The first step; negative counts from the end of the longest sequence."""
    stop: int | None = None
    """The step to stop before."""
    step: int | None = None
    """Every how many steps."""


class TraceRequest(PredictRequest):
    """A predict request and which part of its trace is wanted; replies keep the order asked for."""

    signals: list[Signal] | None = Field(default=None, min_length=1)
    """All six by default."""

    layers: list[int] | None = None
    """Counted from 0; all by default."""

    directions: list[Literal["forward", "reverse"]] | None = None
    """All by default."""

    units: list[int] | Annotated[str, Field(pattern=r"^\d*:\d*(:[1-9]\d*)?$")] | None = None
    """A list such as `[3, 17]` or a slice such as `"0:16"`; all by default."""

    time: TimeSlice | None = None
    """All steps by default."""


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


class LSTMInfo(BaseModel):
    """The arguments of the model's `nn.LSTM`."""

    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    proj_size: int


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
    reason: str | None = None
    description: str | None = None
    task: str | None = None
    device: str | None = None
    dtype: str | None = None
    parameters: int | None = None
    lstm: LSTMInfo | None = None
    input: InputInfo | None = None
    output: OutputInfo | None = None
    examples: list[ExampleInfo] = []


class ModelList(BaseModel):
    """Every model of the server."""

    models: list[ModelInfo]


class Health(BaseModel):
    """How the service is."""

    status: Literal["live", "ready"]
