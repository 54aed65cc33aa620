"""`inputs_of`: what an exported forward is given, and what each of it is to a recurrent model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from gatescope.errors import CheckpointError
from gatescope.names import quoted
from gatescope.pipeline.export.graph import Dimension, Graph, Meta

Role = Literal["sequence", "lengths", "state"]

_OVER_TIME = 3  # axes

_WANTED = (
    "a forward must take one sequence, floats (batch, time, feature) or integer ids (batch, time), and may take their "
    "lengths, integers (batch,), and states, floats (layers · directions, batch, size) or (batch, size)"
)


@dataclass(frozen=True)
class Input:
    """One tensor that forward is given.

    `shape` is that of the sample with which the module was exported.
    """

    name: str
    role: Role
    dtype: torch.dtype
    dimensions: tuple[Dimension, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the sample."""
        return tuple(dimension.size for dimension in self.dimensions)

    @property
    def batch_axis(self) -> int:
        """Which axis the rows are along."""
        return 1 if self.role == "state" and len(self.dimensions) == _OVER_TIME else 0

    def sized(self, batch: int, steps: int) -> tuple[int, ...]:
        """The shape for so many sequences of so many steps."""
        shape = list(self.shape)
        shape[self.batch_axis] = batch
        if self.role == "sequence":
            shape[1] = steps
        return tuple(shape)


def inputs_of(graph: Graph) -> tuple[Input, ...]:
    """The inputs in order.

    Raises:
        CheckpointError: one of them is neither a sequence nor its lengths nor a state, or there are several sequences.
    """
    metas = {name: _known(graph, name) for name in graph.inputs}
    roles = {name: _role(meta) for name, meta in metas.items()}
    if list(roles.values()).count("sequence") == 0:  # of floats with three axes the first is it
        over_time = [name for name, role in roles.items() if role == "state" and len(metas[name].shape) == _OVER_TIME]
        roles |= dict.fromkeys(over_time[:1], "sequence")
    inputs = []
    for name, meta in metas.items():
        shape, role = [dimension.size for dimension in meta.shape], roles[name]
        if role is None or 0 in shape:
            raise CheckpointError(f"its input {quoted(name)} is {meta.dtype} of shape {shape}; {_WANTED}")
        inputs.append(Input(name, role, torch.float32 if meta.dtype.is_floating_point else meta.dtype, meta.shape))
    sequences = [each.name for each in inputs if each.role == "sequence"]
    if len(sequences) != 1:
        raise CheckpointError(f"it takes {len(sequences)} sequences ({', '.join(map(quoted, sequences))}); {_WANTED}")
    batch = next(each.shape[0] for each in inputs if each.role == "sequence")
    if other := [each for each in inputs if each.shape[each.batch_axis] != batch]:
        raise CheckpointError(
            f"its input {quoted(other[0].name)} has shape {list(other[0].shape)} for a sample of {batch} sequences; "
            f"{_WANTED}"
        )
    return tuple(inputs)


def _known(graph: Graph, name: str) -> Meta:
    if (meta := graph.metas.get(name)) is None:
        raise CheckpointError(f"the file does not say what its input {quoted(name)} is")
    return meta


def _role(meta: Meta) -> Role | None:
    rank = len(meta.shape)
    if meta.dtype == torch.bool:
        return None
    if meta.dtype.is_floating_point:
        return "state" if rank in {2, _OVER_TIME} else None
    if rank == 1:
        return "lengths"
    return "sequence" if rank == 2 else None  # noqa: PLR2004
