"""What the methods of a client take by name: the fields of a request, as `docs/api.md` describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

Array = Any
"""Numbers: an array of NumPy, a tensor of PyTorch, or lists of numbers, all nested as the field's axes say."""

Output = Literal["prediction", "output", "final_state"]


class Chunk(TypedDict, total=False):
    """The fields of a predict body that a step of a session has, too."""

    text: str | Sequence[str] | None
    layout: Literal["batch_time_feature", "time_batch_feature"]
    columns: Sequence[str] | None
    sequence_lengths: Array | None
    outputs: Sequence[Output] | None
    module: str | None
    horizon: int | None
    future_inputs: Array | None


class Asked(Chunk, total=False):
    """The fields of a predict body, and the model's version."""

    version: str | None
    initial_state: tuple[Array, Array] | Mapping[str, Any] | None
    static_inputs: Array | None
    static_columns: Sequence[str] | None


class Selected(TypedDict, total=False):
    """Which part of a trace is wanted."""

    signals: Sequence[str] | None
    layers: Array | None
    directions: Sequence[Literal["forward", "reverse"]] | None
    units: Array | slice | str | None
    time: slice | Mapping[str, int | None] | None


class Traced(Asked, Selected, total=False):
    """The fields of a trace body."""


class Explained(Asked, total=False):
    """The fields of an explain body; `unit` and `time_step` must be there."""

    unit: int
    time_step: int
    layer: int
    direction: Literal["forward", "reverse"]
    trace_id: str
    sequence: int


def written(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as the API takes them: slices written out, and `nn.LSTM`'s pair (h, c) under its names."""
    told = {name: value for name, value in given.items() if name != "version"}
    units, span, state = given.get("units"), given.get("time"), given.get("initial_state")
    if isinstance(units, slice):
        ends = (units.start, units.stop) if units.step is None else (units.start, units.stop, units.step)
        told["units"] = ":".join("" if end is None else str(end) for end in ends)
    if isinstance(span, slice):
        told["time"] = {name: getattr(span, name) for name in ("start", "stop", "step")}
    if state is not None:
        told["initial_state"] = _named_state(state)
    return told


def _named_state(state: Any) -> Any:
    """A pair (h, c) under its names; pairs of several modules under theirs."""
    if isinstance(state, tuple | list):
        return dict(zip(("hidden_state", "cell_state"), state, strict=True))
    if not isinstance(state, Mapping) or "modules" in state or {"hidden_state", "cell_state"} & state.keys():
        return state
    return {"modules": {name: _named_state(each) for name, each in state.items()}}
