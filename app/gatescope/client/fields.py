"""What the methods of a client take by name: the fields of a request, as `docs/api.md` describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from gatescope.client.prediction import STATES
from gatescope.errors import InvalidInput

Array = Any
"""Numbers: an array of NumPy, a tensor of PyTorch, or lists of numbers, all nested as the field's axes say.

Or tables, whose columns are matched by name: a data frame of pandas or polars with a row a time step, a Dataset or a
DataArray of xarray, a list of such, or a dictionary of such by the names of the sequences.
"""

GivenState = tuple[Array, ...] | Mapping[str, Any] | Array
"""(h, c) of an `nn.LSTM`, h of another module, either under their names, or those of several modules by name."""

_STATE_AXES = 3  # (layers · directions, batch, unit)

Output = Literal["prediction", "output", "final_state"]


class Sampling(TypedDict, total=False):
    """How the tokens of a horizon are drawn; what is left out is as the model's manifest says."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    seed: int | None
    samples: int
    stop: Sequence[str] | Sequence[int] | None


class Chunk(TypedDict, total=False):
    """The fields of a predict body that a step of a session has, too."""

    text: str | Sequence[str] | None
    layout: Literal["batch_time_feature", "time_batch_feature"]
    columns: Sequence[str] | None
    timestamps: Sequence[Any] | str | None
    ids: Sequence[str] | None
    observed: Mapping[str, Any] | Sequence[str] | None
    sequence_lengths: Array | None
    outputs: Sequence[Output] | None
    module: str | None
    horizon: int | None
    sampling: Sampling | None
    future_inputs: Array | None


class Asked(Chunk, total=False):
    """The fields of a predict body, and the model's version."""

    version: str | None
    initial_state: GivenState | None
    static_inputs: Array | None
    static_columns: Sequence[str] | None


class OfTables(TypedDict, total=False):
    """How tables are read: `timestamps` may be the name of a column, too, and `observed` a list of names."""

    id: str | None


class Many(OfTables, total=False):
    """How many sequences are asked for."""

    concurrency: int
    progress: bool


class Selected(TypedDict, total=False):
    """Which part of a trace is wanted."""

    signals: Sequence[str] | None
    layers: Array | None
    directions: Sequence[Literal["forward", "reverse"]] | None
    units: Array | slice | str | None
    time: slice | Mapping[str, int | None] | None


class Predicted(Asked, Many, total=False):
    """What `predict` takes."""


class Traced(Asked, Selected, Many, total=False):
    """What `trace` takes."""


class Planned(OfTables, total=False):
    """What `backtest` takes: what is compared, and from where and how far is predicted."""

    version: str | None
    columns: Sequence[str] | None
    timestamps: Sequence[Any] | str | None
    ids: Sequence[str] | None
    observed: Mapping[str, Any] | Sequence[str] | None
    target: str | None
    horizon: int | None
    window: int | None
    stride: int | None
    season: int | None
    start: int | None


class Explained(Asked, OfTables, total=False):
    """The fields of an explain body; `unit` and `time_step` must be there."""

    unit: int
    time_step: int
    layer: int
    direction: Literal["forward", "reverse"]
    trace_id: str
    sequence: int


class Intervened(Asked, Selected, total=False):
    """The fields of an intervene body; an intervention has the fields of the API, or slices for `units` and `time`."""

    interventions: Sequence[Mapping[str, Any]] | None
    inputs_edited: Array | None
    text_edited: str | Sequence[str] | None
    trace_id: str


def written(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as the API takes them: slices written out, and states as PyTorch has them under their names."""
    told = {name: value for name, value in given.items() if name not in {"version", *Many.__annotations__}}
    units, span, state = given.get("units"), given.get("time"), given.get("initial_state")
    if isinstance(units, slice):
        ends = (units.start, units.stop) if units.step is None else (units.start, units.stop, units.step)
        told["units"] = ":".join("" if end is None else str(end) for end in ends)
    if isinstance(span, slice):
        told["time"] = {name: getattr(span, name) for name in ("start", "stop", "step")}
    if given.get("interventions") is not None:
        told["interventions"] = [_edit(each) for each in given["interventions"]]
    if state is not None:
        told["initial_state"] = _named_state(state)
    return told


def _edit(given: Mapping[str, Any]) -> dict[str, Any]:
    """An intervention as the API takes it."""
    told = written(given)
    if isinstance(given.get("time"), slice) and told["time"].pop("step") not in (None, 1):
        raise InvalidInput("interventions: `time` is a span of steps, and takes no step")
    return told


def _named_state(state: Any) -> Any:
    """(h, c), or h alone, under their names; those of several modules under theirs."""
    if not isinstance(state, tuple) and _depth(state) == _STATE_AXES:
        return {STATES[0]: state}
    if isinstance(state, tuple | list):
        if not 0 < len(state) <= len(STATES):
            raise InvalidInput(
                f"initial_state: a state is (h, c) of an nn.LSTM or h of others, not {len(state)} arrays"
            )
        return dict(zip(STATES, state, strict=False))
    if not isinstance(state, Mapping) or "modules" in state or set(STATES) & state.keys():
        return state
    return {"modules": {name: _named_state(each) for name, each in state.items()}}


def _depth(value: Any) -> int:
    """How many axes it has, as an array or as lists in lists."""
    if isinstance(value, list | tuple):
        return 1 + (_depth(value[0]) if value else 0)
    return int(getattr(value, "ndim", 0))
