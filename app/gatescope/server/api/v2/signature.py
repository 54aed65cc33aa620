"""Which tensors a model takes and gives, by name; the batch comes first in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.heads import FIRST
from gatescope.pipeline.model import Model
from gatescope.server.serving.states import has_several_modules

ANY = -1
"""The size of an axis whose length the client chooses."""

STATES = {"initial_hidden_state": "hidden_state", "initial_cell_state": "cell_state"}
FINAL_STATES = {"final_hidden_state": "hidden_state", "final_cell_state": "cell_state"}
"""What the protocol calls the parts of a `State`, of those that the cell has; of several modules it has no state."""

OTHER_HEADS = f"{FIRST}."
"""What stands before the names of the heads behind the first."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: what it holds, and its axes with their sizes."""

    name: str
    datatype: str
    sizes: Mapping[str, int]
    optional: bool = False

    @property
    def shape(self) -> list[int]:
        """The sizes alone."""
        return list(self.sizes.values())

    @property
    def axes(self) -> str:
        """The axes, for messages: `(batch, time, feature = 5)`."""
        named = (axis if size == ANY else f"{axis} = {size}" for axis, size in self.sizes.items())
        return f"({', '.join(named)})"

    def fits(self, shape: list[int]) -> bool:
        """Whether a tensor of this shape may come here; how long the client's own axes may be is said elsewhere."""
        return len(shape) == len(self.sizes) and all(
            wanted in (ANY, size) for wanted, size in zip(self.sizes.values(), shape, strict=True)
        )


def inputs(model: Model) -> dict[str, TensorInfo]:
    """What a model takes."""
    spec, stated = model.spec, model.manifest.input
    if isinstance(stated, FeatureInputs):
        taken = [TensorInfo("inputs", "FP32", {"batch": ANY, "time": ANY, "feature": len(stated.features)})]
    else:
        taken = [TensorInfo("inputs", "INT64", {"batch": ANY, "time": ANY})]
    if model.reads_text:
        taken.append(TensorInfo("text", "BYTES", {"batch": ANY}, optional=True))
    taken.append(TensorInfo("sequence_lengths", "INT64", {"batch": ANY}, optional=True))
    if model.manifest.static is not None:
        sizes_of_static = {"batch": ANY, "feature": len(model.manifest.static.features)}
        taken.append(TensorInfo("static_inputs", "FP32", sizes_of_static))
    if model.pipeline.takes_initial_state and not has_several_modules(model):
        sizes = dict(zip(spec.cell.states, spec.state_sizes, strict=True))
        taken += [_state(name, model, sizes[part], optional=True) for name, part in STATES.items() if part in sizes]
    return {tensor.name: tensor for tensor in taken}


def outputs(model: Model) -> dict[str, TensorInfo]:
    """What a model gives, each only when it is asked for."""
    spec = model.spec
    given = []
    for index, head in enumerate(model.pipeline.heads):
        shape = model.pipeline.prediction_shape(ANY, head) or ()
        axes = ("time", "value") if len(shape) > 1 else ("value",)
        name = f"{OTHER_HEADS}{head}" if index else FIRST
        given.append(TensorInfo(name, "FP32", {"batch": ANY, **dict(zip(axes, shape, strict=True))}))
    given.append(TensorInfo("output", "FP32", {"batch": ANY, "time": ANY, "unit": spec.output_size}))
    sizes_of_states = zip(spec.cell.states, spec.state_sizes, strict=True)
    states = {} if has_several_modules(model) else dict(sizes_of_states)
    given += [_state(name, model, states[part]) for name, part in FINAL_STATES.items() if part in states]
    for signal in spec.cell.signal_names:
        sizes = {"batch": ANY, "layer": spec.num_layers, "direction": spec.num_directions, "time": ANY}
        given.append(TensorInfo(signal, "FP32", sizes | {"unit": spec.signal_sizes[signal]}))
    return {tensor.name: tensor for tensor in given}


def _state(name: str, model: Model, units: int, *, optional: bool = False) -> TensorInfo:
    sizes = {"batch": ANY, "layer_direction": model.spec.state_entries, "unit": units}
    return TensorInfo(name, "FP32", sizes, optional)
