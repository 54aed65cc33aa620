"""What replies look like, as pydantic models; the replies with arrays are described by them only."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class ModelVersion(BaseModel):
    """Which version of which model answers."""

    name: str
    version: str


class ModelName(ModelVersion):
    """Which model answered."""

    verified: Literal[False] | None = Field(
        default=None, description="false beside a prediction of a model whose predictions are not verified; else absent"
    )


class NoteReply(BaseModel):
    """What was assumed for the request."""

    code: Literal[
        "filled", "unknown_token", "window", "warmup", "unverified", "table", "calendar", "analysis", "out_of_range"
    ]
    message: str
    loc: list[str | int] | None = Field(default=None, description="the place in the request, where there is one")


class ModuleStates(BaseModel):
    """A state in the recurrent module's own layout, (layers · directions, batch, unit)."""

    hidden_state: list[list[list[float]]]
    cell_state: list[list[list[float]]] | None = Field(default=None, description="of an LSTM; else absent")


class States(BaseModel):
    """A state in the recurrent module's own layout, (layers · directions, batch, unit), or `modules` with several."""

    hidden_state: list[list[list[float]]] | None = None
    cell_state: list[list[list[float]]] | None = Field(default=None, description="of an LSTM; else absent")
    modules: dict[str, ModuleStates] | None = Field(default=None, description="by name, where the model has several")


class SamplingReply(BaseModel):
    """How tokens were drawn."""

    temperature: float
    top_k: int | None = Field(description="null: from all tokens")
    top_p: float | None = Field(description="null: from all tokens")
    seed: int


class SampleReply(BaseModel):
    """One of several texts that a sequence was continued with."""

    text: str | None = Field(default=None, description="absent of a model that reads no text")
    tokens: list[str]
    finish_reason: Literal["stop", "length"] = Field(description="stop: one of `stop` ended it; length: the horizon")


class PredictionReply(BaseModel):
    """What the model says, ragged: every sequence has its true length."""

    values: list[Any] = Field(description="[batch][step][value], or [batch][value] for one prediction per sequence")
    labels: list[Any] | None = Field(
        default=None,
        description="the likeliest label or token, [batch][step] or [batch]; of a multi_label task a list of labels in "
        "each of these places",
    )
    probabilities: list[Any] | None = Field(
        default=None, description="of every label, in the model's order; absent behind a CRF, whose labels are a path"
    )
    text: list[str] | None = Field(default=None, description="what a model of text wrote with `horizon`, per sequence")
    timestamps: list[Any] | None = Field(
        default=None,
        description="when each value is for, [batch][step] or [batch]; absent without times in the request",
    )
    finish_reason: list[Literal["stop", "length"]] | None = Field(
        default=None, description="why each text ended, of a model that wrote tokens"
    )
    samples: list[list[SampleReply]] | None = Field(
        default=None, description="[batch][sample], where several were asked for; the other fields show the first"
    )


class PredictReply(BaseModel):
    """The answer to a predict request."""

    model: ModelName
    notes: list[NoteReply] | None = Field(default=None, description="what was assumed; absent where nothing was")
    sequence_lengths: list[int]
    ids: list[str] | None = Field(default=None, description="of the sequences, as the request has them")
    timestamps: list[list[str | float]] | None = Field(
        default=None, description="of the steps, as the request has them, carried on over a horizon"
    )
    observed: dict[str, list[list[float | None]]] | None = Field(
        default=None, description="what was measured, as the request has it"
    )
    tokens: list[list[str]] | None = Field(default=None, description="what a model of tokens read, per sequence")
    unknown_tokens: list[list[int]] | None = Field(
        default=None, description="the indices of the `tokens` that the vocabulary lacks; absent where it has all"
    )
    sampling: SamplingReply | None = Field(default=None, description="how tokens were drawn; absent where none were")
    prediction: PredictionReply | None = None
    heads: dict[str, PredictionReply] | None = Field(default=None, description="the other heads, by name")
    output: list[list[list[float]]] | None = Field(default=None, description="[batch][time][directions · unit]")
    final_state: States | None = None


class TraceReply(PredictReply):
    """The answer to a trace request."""

    module: str = Field(description="the recurrent module that was traced, as ModelInfo names it")
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
        description="max |hidden_state of the fused kernel − the one that the cell's equations give for these signals| "
        "over the whole trace; of an LSTM they give output_gate·tanh(cell_state)"
    )


class StoredTraceReply(BaseModel):
    """A trace that is kept."""

    trace_id: str
    shape: list[int] = Field(description="(batch, layer, direction, time, unit)")
    bytes: int = Field(description="all that is kept of it")
    expires_at: float = Field(description="Unix seconds: when it is dropped if nobody looks at it until then")
    notes: list[NoteReply] | None = Field(default=None, description="what was assumed; absent where nothing was")


class StoredTraceInfo(StoredTraceReply, PredictReply):
    """A trace reply without the signals."""

    module: str = Field(description="the recurrent module that was traced, as ModelInfo names it")
    axes: list[str]
    layers: list[int]
    directions: list[str]
    units: list[int]
    time_steps: list[int]
    inputs: list[list[list[float]]] | None = Field(
        default=None,
        description="(batch, time, feature): what a model of features read, the steps of a horizon included; left out "
        "where the traced module has time steps of its own",
    )
    static_inputs: list[list[float]] | None = Field(
        default=None, description="(batch, feature), of a model that takes them"
    )
    horizon: int | None = Field(
        default=None, description="how many of the last steps of each sequence were fed back; absent without any"
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
    owner: str | None = Field(description="the name of the key that it was made with; null of what is everybody's")
    model: ModelVersion
    steps: int = Field(description="how many were taken, which is the next one's `step_number`")
    time_steps: int = Field(description="of all steps together")
    created_at: float = Field(description="Unix seconds")
    expires_at: float = Field(description="Unix seconds: when it ends, if there is no other step before that")


class SessionList(BaseModel):
    """Every session that is open; of an admin key those of all owners."""

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
    value: float = Field(description="what comes in: x as the module is fed it, or h")
    weight: float
    contribution: float = Field(description="weight · value")


class ScaleReply(BaseModel):
    """The gate that scales the recurrent part of another one."""

    gate: str = Field(description="its name, such as reset_gate")
    value: float


class GateReply(BaseModel):
    """One gate: activation(W_i·x_t + W_h·h_{t−1} + biases)."""

    input_contribution: float = Field(description="W_i·x_t")
    recurrent_contribution: float = Field(description="W_h·h_{t−1}")
    bias_input: float | None = Field(description="null for a module without bias")
    bias_recurrent: float | None = Field(description="null for a module without bias")
    terms: dict[str, float] = Field(
        description="what is summed, by the names of these fields and in the order of `formula`; the recurrent ones "
        "multiplied by the scale, where there is one"
    )
    sum: float
    activation: str = Field(description="sigmoid, tanh or relu; of a variant any that a manifest names")
    value: float
    formula: str = Field(description="the same in numbers, rounded")
    largest_inputs: list[ContributionReply] = Field(description="at most 8, the largest first")
    largest_recurrent: list[ContributionReply] = Field(description="at most 8, the largest first")


class ScaledGateReply(GateReply):
    """One gate whose recurrent part another one scales: activation(W_i·x_t + b_i + scale·(W_h·h_{t−1} + b_h))."""

    recurrent_scale: ScaleReply
    recurrent_term: float = Field(description="scale·(W_h·h_{t−1} + b_h), as it stands in the sum")


class StateScaledGateReply(GateReply):
    """One gate of a state that another one scales: activation(W_i·x_t + b_i + W_h·(scale⊙h_{t−1}) + b_h).

    `recurrent_contribution` is W_h·(scale⊙h_{t−1}), and the values of `largest_recurrent` are the scaled units.
    """

    state_scale: str = Field(description="the gate, such as reset_gate")


class GatesReply(BaseModel):
    """The four gates of an LSTM."""

    input_gate: GateReply
    forget_gate: GateReply
    cell_candidate: GateReply
    output_gate: GateReply


class GRUGatesReply(BaseModel):
    """The gates of a GRU."""

    reset_gate: GateReply
    update_gate: GateReply
    candidate: ScaledGateReply | StateScaledGateReply


class RNNGatesReply(BaseModel):
    """What a plain recurrent network has for a gate: its hidden state."""

    hidden_state: GateReply


class FactorReply(BaseModel):
    """One factor of a term: a gate or a state, or a function of it."""

    name: str = Field(description="of the gate or the state")
    is_previous: bool = Field(description="whether it is of the step before")
    function: str | None = Field(description="such as tanh; complement: 1 − argument; null: the number itself")
    argument: float
    value: float = Field(description="function(argument)")


class TermReply(BaseModel):
    """One term of a state's equation: the product of its factors."""

    factors: list[FactorReply]
    value: float


class UpdateReply(BaseModel):
    """The equation of a state: the sum of its terms, by name."""

    terms: dict[str, TermReply] = Field(
        description="of a GRU `candidate_term`, (1 − z_t)·n_t, and `carried_term`, z_t·h_{t−1}; of an LSTM "
        "`forget_term`, f_t·c_{t−1}, and `input_term`, i_t·g_t, or `output_term`"
    )
    value: float = Field(description="the sum")
    formula: str = Field(description="the same in numbers, rounded")


class CellUpdateReply(UpdateReply):
    """c_t = f·c_{t−1} + i·g."""

    forget_gate: float
    previous_cell_state: float
    kept: float = Field(description="f·c_{t−1}")
    input_gate: float
    cell_candidate: float
    written: float = Field(description="i·g")
    cell_state: float


class HiddenUpdateReply(UpdateReply):
    """h_t = o·tanh(c_t)."""

    output_gate: float
    cell_state: float
    tanh_cell_state: float
    hidden_state: float | None = Field(description="o·tanh(c_t); null where a projection mixes the units")
    unprojected_hidden_state: float | None = Field(description="o·tanh(c_t) before the projection; null without one")
    projected_hidden_state: list[float] | None = Field(description="what all units give after it; null without one")


class ExplainReply(BaseModel):
    """One unit at one time step, with every number."""

    model: ModelVersion
    notes: list[NoteReply] | None = Field(default=None, description="what was assumed; absent where nothing was")
    module: str = Field(description="the recurrent module that is explained, as ModelInfo names it")
    layer: int
    direction: Literal["forward", "reverse"]
    time_step: int = Field(description="counted from the start")
    previous_time_step: int | None = Field(
        description="the step that the states before come from, the later one for `reverse`; null: the initial state"
    )
    unit: int
    inputs: dict[str, float] | None = Field(description="the raw features of this step; null for a model of tokens")
    token: str | None = Field(description="the token of this step; null for a model of features")
    gates: GatesReply | GRUGatesReply | RNNGatesReply
    cell_update: CellUpdateReply | UpdateReply | None = Field(default=None, description="of an LSTM; else absent")
    hidden_update: HiddenUpdateReply | UpdateReply | None = Field(
        default=None, description="absent of a plain recurrent network: `gates.hidden_state` is all there is"
    )
    residual: float = Field(description="max |walk-through − trace| of this unit's states")


def _is_none(value: object) -> bool:
    return value is None


class LSTMInfo(BaseModel):
    """The arguments of the model's recurrent module, whatever its cell."""

    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    proj_size: int
    nonlinearity: Literal["tanh", "relu"] | None = Field(
        default=None, exclude_if=_is_none, description="of an `nn.RNN`; else absent"
    )
    activation: str | None = Field(
        default=None, exclude_if=_is_none, description="of a cell with other functions than PyTorch's; else absent"
    )
    recurrent_activation: str | None = Field(default=None, exclude_if=_is_none, description="of the gates, likewise")
    output_activation: str | None = Field(
        default=None, exclude_if=_is_none, description="of the cell state, where it is not `activation`"
    )
    reset_after: Literal[False] | None = Field(
        default=None, exclude_if=_is_none, description="false of a GRU that scales the state before the product"
    )


class SignalInfo(BaseModel):
    """A quantity that a trace of the model shows, or can show."""

    name: str
    symbol: str
    low: float | None = Field(description="the least value that it can take; null where there is none")
    high: float | None = Field(description="the greatest value that it can take; null where there is none")
    description: str
    on_request: Literal[True] | None = Field(
        default=None,
        exclude_if=_is_none,
        description="true of a signal that a trace has only if it is named; else absent",
    )


class NamedLSTMInfo(LSTMInfo):
    """One of the model's recurrent modules; `module` in a request chooses it."""

    name: str
    cell: str
    signals: list[SignalInfo]


class ModuleInfo(BaseModel):
    """One of the model's recurrent modules."""

    name: str
    cell: str
    spec: LSTMInfo
    states: list[str]
    signals: list[SignalInfo]


class StaticInfo(BaseModel):
    """What the model takes once for each sequence."""

    feature_names: list[str]


class VerifiedInfo(BaseModel):
    """How the model's predictions were compared with numbers of the training code."""

    by: Literal["sample", "graph"] = Field(
        description="sample: what they were compared with; graph: the model is the graph that was exported"
    )
    max_error: float = Field(description="the largest difference, divided by the largest expected value")
    tolerance: float = Field(description="how far apart they may be when the sample is taken")
    sample: str | None = Field(description="the title of the example that is the sample; null of a graph without")


class NotComputedInfo(BaseModel):
    """Weights on the way from the inputs to a prediction that the service does not compute."""

    name: str
    kind: str
    place: Literal["before", "behind"] = Field(description="the recurrent layers")


class InputInfo(BaseModel):
    """What the model takes."""

    kind: Literal["features", "tokens"]
    feature_names: list[str] | None = None
    vocabulary_size: int | None = None
    derived: dict[str, str] | None = Field(
        default=None,
        description="the features that follow from `timestamps` where a request leaves them all out, and what of the "
        "time each is; null where none does",
    )
    text: bool = Field(description="whether it reads `text`")


class HeadInfo(BaseModel):
    """One prediction of the model."""

    name: str = Field(description="the first is `prediction` in replies, others are `heads.{name}`")
    kind: str = Field(description="the task")
    names: list[str] | None = Field(default=None, description="of a regression or quantile")
    labels: list[str] | None = Field(default=None, description="null of a next-token head: they are the vocabulary")
    quantiles: list[float] | None = Field(default=None, description="of each name, side by side in `values`")
    threshold: float | None = Field(default=None, description="the probability from which on a label is given")
    units: list[str] | None = Field(default=None, description="of each name, for people")
    predicts: Literal["same_step", "next_step"] | None = Field(
        default=None, description="of which step the prediction at step t is; null for a classification"
    )


class OutputInfo(BaseModel):
    """What the model gives: its task, or `output` without a head; all but `heads` is of the first head."""

    kind: str
    names: list[str] | None = None
    labels: list[str] | None = None
    predicts: Literal["same_step", "next_step"] | None = Field(
        default=None, description="of which step the prediction at step t is; null for a classification"
    )
    quantiles: list[float] | None = Field(default=None, description="of each name, side by side in `values`")
    heads: list[HeadInfo] = Field(default=[], description="every prediction of the model")


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
    fingerprint: str | None = Field(
        default=None, description="of its manifest, vocabulary and weights: equal for models that compute the same"
    )
    trace_method: str | None = Field(
        default=None, description="the backend that computes its gates: workspace, replay, stepwise or loop"
    )
    cell: str | None = Field(default=None, description="the recurrent cell: lstm, gru or rnn")
    signals: list[SignalInfo] = Field(default=[], description="what a trace of the model shows, in order")
    lstm: LSTMInfo | None = Field(default=None, description="the arguments of its recurrent module, of any cell")
    lstms: list[NamedLSTMInfo] = Field(default=[], description="all recurrent modules; `lstm` is the first")
    modules: list[ModuleInfo] = Field(default=[], description="every recurrent module, with its states and signals")
    input: InputInfo | None = None
    static: StaticInfo | None = Field(default=None, description="what it takes once for each sequence")
    output: OutputInfo | None = None
    window: int | None = Field(
        default=None, description="how many time steps the sequences of the training had; null where that is not known"
    )
    warmup_steps: int | None = Field(
        default=None, description="how many first time steps of a sequence are not to be believed"
    )
    missing: dict[str, str | float] | None = Field(
        default=None,
        description="what a missing value (null or NaN) of a feature is taken for, of those that may be missing",
    )
    verified: VerifiedInfo | None = Field(
        default=None, description="how its predictions were compared with the training code's; null where they were not"
    )
    ignored: list[str] = Field(default=[], description="weights that are left aside knowingly")
    not_computed: list[NotComputedInfo] = Field(default=[], description="weights that are missing in what is computed")
    examples: list[ExampleInfo] = []


class TableProblem(BaseModel):
    """What is wrong with a table, and where."""

    message: str
    row: int | None = Field(default=None, description="counted from 0, without the lines of names; null of no one row")
    column: str | None = None


class UnmappedFeature(BaseModel):
    """A feature for which a table has no column."""

    name: str
    nearest: list[str] = Field(description="columns that may be it, the likeliest first")
    map: str | None = Field(description="what the query's `map` needs if the first of them is it; null without one")


class PreviewedSequence(BaseModel):
    """One sequence of a table."""

    id: str | None = Field(description="null where the table is one sequence")
    time_steps: int
    first: str | float | None = Field(description="its first time; null of a table without times")
    last: str | float | None


class TablePreview(BaseModel):
    """What a table means to a model."""

    columns: list[str]
    mapping: dict[str, str] = Field(default={}, description="feature or output -> the column that it is")
    not_found: list[UnmappedFeature] = Field(default=[], description="features without a column")
    sequences: list[PreviewedSequence] = []
    horizon: int = Field(default=0, description="rows at the end that lack every output: further steps")
    notes: list[str] = Field(default=[], description="what was found and changed on the way, a sentence each")
    problems: list[TableProblem] = Field(default=[], description="what keeps it from being read, cell by cell")
    request: dict[str, Any] | None = Field(default=None, description="the predict body; null where there are problems")


class UploadReply(ModelInfo):
    """The version that an upload made."""

    notes: list[str] = Field(description="what was found in the checkpoint, and what was guessed")


class ModelList(BaseModel):
    """Every model of the server."""

    models: list[ModelInfo]


class Health(BaseModel):
    """How the service is."""

    status: Literal["live", "ready"]
