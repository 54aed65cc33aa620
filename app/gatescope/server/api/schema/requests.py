"""What requests may say, as pydantic models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from gatescope.cells import SIGNAL_NAMES
from gatescope.pipeline.sampling import LARGEST_SEED
from gatescope.server.api.schema.arrays import Axes, Sequences
from gatescope.server.api.schema.elements import RAW_OR_NULL, STATIC_RAW
from gatescope.server.api.schema.field_names import check_known
from gatescope.server.api.schema.fields import Stop, Text, Units
from gatescope.server.api.schema.module_states import STATES, ByState, ModuleStates, check_fields
from gatescope.server.api.schema.shapes import Expected, as_validation_error

if TYPE_CHECKING:
    Signal = str
else:
    Signal = Literal[*SIGNAL_NAMES]
Output = Literal["prediction", "output", "final_state"]
MOST_SAMPLES = 128
MOST_INTERVENTIONS = 1000
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
        with as_validation_error():
            check_known(value if isinstance(value, dict) else {}, cls.model_fields)
        return value


class InitialState(Body):
    """Of an `nn.LSTM` its (h0, c0) in its own layout, of another module its h0; of several modules those of each.

    Entry `layer * num_directions + direction` comes first.
    """

    hidden_state: Annotated[np.ndarray, STATES["hidden_state"]] | None = None
    """(layers · directions, batch, proj_size or hidden_size)."""

    cell_state: Annotated[np.ndarray, STATES["cell_state"]] | None = None
    """(layers · directions, batch, hidden_size), of an LSTM."""

    modules: Annotated[dict[str, ByState], ModuleStates] | None = None
    """The same of each module, by its name."""

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, value: Any, info: ValidationInfo) -> Any:
        """Of one module its own states, of several `modules`."""
        if isinstance(value, dict) and isinstance(info.context, Expected):
            with as_validation_error():
                check_fields(value, info.context)
        return value

    @property
    def parts(self) -> dict[str | None, ByState]:
        """The states of each module by its name, None of a lone one."""
        if self.modules is None:
            given = {name: getattr(self, name) for name in STATES}
            return {None: {name: values for name, values in given.items() if values is not None}}
        return {name: states for name, states in self.modules.items()}  # noqa: C416 - other keys, for mypy


class SamplingRequest(Body):
    """How next tokens are drawn; what is left out is as the model's manifest says, or without a bound.

    The temperature is applied first, then `top_k`, then `top_p`.
    """

    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """The scores are divided by it; 0 takes the likeliest token."""

    top_k: int | None = Field(default=None, ge=1)
    """Draw from so many of the likeliest tokens only."""

    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draw from the fewest likeliest tokens only whose probabilities sum up to at least this."""

    seed: int | None = Field(default=None, ge=0, le=LARGEST_SEED)
    """Each seed draws other tokens, and the same ones each time."""

    samples: int = Field(default=1, ge=1, le=MOST_SAMPLES)
    """How many texts each sequence is continued with."""

    stop: Annotated[list[str] | list[int] | None, Stop] = None
    """Texts, or token ids of a model that reads no text: what ends with one of them is written no further."""


class PredictRequest(Body):
    """A batch of sequences and what is wanted of it."""

    layout: Literal["batch_time_feature", "time_batch_feature"] = DEFAULT_LAYOUT
    """The order of the axes of `inputs`; `time_batch_feature` is `nn.LSTM`'s own default layout."""

    inputs: Sequences | None = None
    """A batch of sequences of time steps of features (they may differ in length), one sequence alone, or token ids."""

    text: Annotated[str | list[str], Text] | None = None
    """Instead of `inputs`, for models that read text: one text or several."""

    columns: list[str] | None = Field(default=None, min_length=1, max_length=100_000, fail_fast=True)
    """The names of the last axis of `inputs` and `future_inputs`: exactly the model's features, in any order."""

    sequence_lengths: list[int] | None = Field(default=None, min_length=1, fail_fast=True)
    """The true length of each sequence of a padded, rectangular `inputs`."""

    static_inputs: Annotated[np.ndarray, Axes("batch static_feature", STATIC_RAW, optional_batch=True)] | None = None
    """What is known of each sequence as a whole: a vector for each, or one for a lone sequence."""

    static_columns: list[str] | None = Field(default=None, min_length=1, max_length=100_000, fail_fast=True)
    """The names of the last axis of `static_inputs`: exactly the model's static features, in any order."""

    timestamps: list[Any] | None = Field(default=None, min_length=1, max_length=1_000_000)
    """When each step is, [batch][time] or [time] of a lone sequence: ISO 8601 or numbers, strictly increasing."""

    ids: list[str] | None = Field(default=None, min_length=1, max_length=1_000_000, fail_fast=True)
    """What each sequence is called, each otherwise; the reply has them again."""

    observed: dict[str, list[Any]] | None = Field(default=None, max_length=10_000)
    """What was measured of outputs, by name: [batch][time] or [time]; null where nothing was. It is never an input."""

    initial_state: InitialState | None = None
    """Where the recurrent layers start; zeros, or what the model has learned, when not given."""

    outputs: list[Output] | None = Field(default=None, min_length=1, max_length=3)
    """What to answer: the `prediction` by default, or the `output` of a model without a head."""

    module: str | None = None
    """Of a model with several recurrent modules: which one is looked at; the first that runs when not given."""

    horizon: int | None = Field(default=None, ge=1)
    """Feed predictions back for this many further steps: a forecast, or text that writes itself."""

    sampling: SamplingRequest | None = None
    """How the tokens of the horizon are drawn, of a `next_token` model."""

    future_inputs: Annotated[np.ndarray, Axes("batch step feature", RAW_OR_NULL, optional_batch=True)] | None = None
    """The known features of those steps, of each sequence or of a lone one; null where the prediction is fed back."""


class TimeSlice(Body):
    """Time steps, as a Python slice."""

    start: int | None = None
    """The first step; negative counts from the end of the longest sequence."""
    stop: int | None = None
    """The step to stop before."""
    step: int | None = None
    """Every how many steps."""


class ScopeSelection(Body):
    """Which layers, directions and units are looked at; replies keep the order asked for."""

    layers: list[int] | None = Field(default=None, max_length=1000, fail_fast=True)
    """Counted from 0; all by default."""

    directions: list[Literal["forward", "reverse"]] | None = Field(default=None, max_length=2)
    """All by default."""

    units: Annotated[list[int] | str, Units] | None = None
    """A list such as `[3, 17]` or a slice such as `"0:16"`; all by default."""


class TraceSelection(ScopeSelection):
    """Which part of a trace is wanted; replies keep the order asked for."""

    signals: list[Signal] | None = Field(default=None, min_length=1, max_length=len(SIGNAL_NAMES))
    """Of those that the model's cell has; all by default, but those that are given on request only."""

    time: TimeSlice | None = None
    """All steps by default."""


class TraceRequest(PredictRequest, TraceSelection):
    """A predict request and which part of its trace is wanted."""


class AnalyseRequest(PredictRequest, ScopeSelection):
    """A predict request, and what of its run an analysis looks at; each analysis adds its parameters."""


class AnalyseTraceRequest(ScopeSelection):
    """What of a stored trace an analysis looks at; each analysis adds its parameters."""


class TimeSpan(Body):
    """Time steps that stand side by side."""

    start: int | None = None
    """The first step; negative counts from the end of the longest sequence."""
    stop: int | None = None
    """The step to stop before."""


class PatchSource(Body):
    """The run that a patch is taken from."""

    trace_id: str
    """A trace of this version of the model, as /v1/traces stored it."""

    sequence: int | None = None
    """Of the trace, counted from 0; needed where it has several."""


class InterventionRequest(Body):
    """An edit of one signal of one layer and direction.

    Exactly one of `set` to `patch_from` says what becomes of a value v.

    The equations, later steps and higher layers see the edited values. Nothing is clipped.
    """

    signal: Signal
    """Of those that the model's cell has."""

    layer: int = 0
    """Counted from 0."""

    direction: Literal["forward", "reverse"] = "forward"
    """Which of the layer's directions."""

    units: Annotated[list[int] | str, Units] | None = None
    """A list such as `[3, 17]` or a slice such as `"0:16"`; all by default."""

    time: TimeSpan | None = None
    """All steps by default; a step that a sequence does not have is not edited."""

    sequences: list[int] | None = Field(default=None, min_length=1, max_length=1_000_000, fail_fast=True)
    """Which sequences of the batch, counted from 0; all by default."""

    scope: Literal["both", "recurrent", "outgoing"] = "both"
    """Who sees an edited `hidden_state`: the layer at its next step, whoever reads its output, or both."""

    set: float | None = Field(default=None, allow_inf_nan=False)
    """v becomes this number, which must be one that the signal can be."""

    scale: float | None = Field(default=None, allow_inf_nan=False)
    """v becomes scale·v."""

    shift: float | None = Field(default=None, allow_inf_nan=False)
    """v becomes v + shift."""

    mean: Literal[True] | None = None
    """v becomes the mean of its unit over all steps of its own sequence, read without interventions."""

    freeze: Literal[True] | None = None
    """v stays what it was at the step that the direction read just before these."""

    patch: Annotated[np.ndarray, Axes("batch time unit", optional_batch=True)] | None = None
    """v becomes that of another run: values (time, unit) or (sequence, time, unit) of what is edited, and no other."""

    patch_from: PatchSource | None = None
    """In place of `patch`: the same signal, units and time steps of a stored trace."""


class InterveneRequest(TraceRequest):
    """A predict request, or a stored trace, and what is to be changed: signals on the way, the input itself, or both.

    Without `signals` no trace is answered.
    """

    trace_id: str | None = None
    """In place of the fields of a predict request: a trace of this model, as /v1/traces stored it."""

    interventions: list[InterventionRequest] | None = Field(default=None, min_length=1, max_length=MOST_INTERVENTIONS)
    """What is edited; of one value, in their order."""

    inputs_edited: Sequences | None = None
    """The intervened run reads these in place of `inputs`; as many sequences, of the same lengths."""

    text_edited: Annotated[str | list[str], Text] | None = None
    """The same in place of `text`; where a prediction is of a sequence as a whole, lengths may differ."""


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
    """Where the stream begins, with a batch of one; zeros, or what the model has learned, when not given."""

    static_inputs: Annotated[np.ndarray, Axes("batch static_feature", STATIC_RAW, optional_batch=True)] | None = None
    """What is known of the stream as a whole, one vector, for a model that takes it; each step reads it."""

    static_columns: list[str] | None = Field(default=None, min_length=1, max_length=100_000, fail_fast=True)
    """The names of its numbers: exactly the model's static features, in any order."""


class StepRequest(PredictRequest):
    """A predict request of one sequence: what is new of the stream, one time step or more."""

    trace: TraceSelection | None = None
    """Answer with the gates and states of these time steps, too."""

    interventions: list[InterventionRequest] | None = Field(default=None, min_length=1, max_length=MOST_INTERVENTIONS)
    """Signals that are edited during this step; times are its own. The stream goes on from what comes of it."""

    step_number: int | None = Field(default=None, ge=0)
    """How many steps were taken before this one. The last one may be sent again: it is answered, not taken twice."""


class StreamedStepRequest(StepRequest):
    """A step as a message of a WebSocket."""

    stream: bool = False
    """Send each token of the horizon as it is drawn, in a message of its own, before the reply."""


class StoreTraceRequest(PredictRequest):
    """A predict request, whose trace is to be kept: all signals, layers, directions, units and time steps of it."""

    model: str
    """One of /v1/models."""

    version: str | None = None
    """The one that answers by default when not given."""
