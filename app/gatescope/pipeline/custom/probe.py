"""`probe`: run a custom module once before anybody asks it, and find out what it reads and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gatescope.capture import Calls, Run, capture_calls
from gatescope.errors import InvalidInput, ModuleFailed
from gatescope.pipeline.custom.forward_signature import ForwardSignature
from gatescope.pipeline.custom.output_shape import OutputShape
from gatescope.pipeline.heads import Task

_TOLERANCE = 1e-3  # far above what the order of sums does in float32, far below what another row does


@dataclass(frozen=True)
class Probed:
    """What the probe has shown."""

    output_shape: OutputShape | None  # None without a task
    ran: tuple[str, ...]  # the LSTMs in the order of their first calls
    aligned: frozenset[str]  # those whose time step t reads the inputs' time step t, and no other
    fed_as_is: frozenset[str]  # those that are given the encoded inputs themselves


def sizes(steps: int) -> tuple[int, int]:
    """(batch, time) of a probe of so many steps; the two differ, so that axes cannot be taken for one another."""
    return (3 if steps == 2 else 2), steps  # noqa: PLR2004


def probe(signature: ForwardSignature, lstms: Mapping[str, nn.LSTM], inputs: Tensor, task: Task | None) -> Probed:
    """Run the module over a batch, over one row of it alone, and over the batch with one step changed.

    Args:
        signature: how it is called.
        lstms: those inside, by name.
        inputs: (batch, time, …) as forward takes them, random; of the sizes that `sizes` gives.
        task: what its prediction means.

    Raises:
        ModuleFailed: it raised, gave what is no prediction of this task, no answer twice, one that depends on the
            other rows, or called none of its LSTMs.
    """
    run = _Probe(signature, lstms, inputs)
    output, calls = run.run(inputs)
    if not calls:
        raise ModuleFailed(f"the module's forward calls none of its nn.LSTMs ({', '.join(lstms)})")
    output_shape = None
    if task is not None:
        output_shape = OutputShape.of(output, len(inputs), inputs.shape[1], task)
        run.check(output_shape, output_shape.read(output, run.lengths, inputs.shape[1]))
    before, after = run.read(calls), run.read(run.run(run.changed())[1])
    aligned = {name for name in before.keys() & after.keys() if run.is_aligned(before[name], after[name])}
    as_is = {name for name, read in before.items() if read.shape == inputs[-1].shape and torch.equal(read, inputs[-1])}
    return Probed(output_shape, tuple(calls), frozenset(aligned), frozenset(as_is))


class _Probe:
    """A batch whose last row is whole; where the module takes lengths, its first is shorter by a step."""

    def __init__(self, signature: ForwardSignature, lstms: Mapping[str, nn.LSTM], inputs: Tensor) -> None:
        self._signature, self._lstms, self._inputs = signature, lstms, inputs
        sequences, steps = inputs.shape[:2]
        self.lengths = torch.full((sequences,), steps)
        if signature.takes_lengths and steps > 1:
            self.lengths[0] -= 1

    def run(self, inputs: Tensor) -> tuple[object, Calls]:
        with capture_calls(self._lstms) as calls:
            return self._signature.call(inputs, self.lengths, None), calls

    def check(self, output_shape: OutputShape, values: Tensor) -> None:
        """Hold the last row against itself alone."""
        alone = self._signature.call(self._inputs[-1:], self.lengths[-1:], None)
        steps = self._inputs.shape[1]
        if _same(output_shape.read(alone, self.lengths[-1:], steps)[0], values[-1]):
            return
        again = output_shape.read(self.run(self._inputs)[0], self.lengths, steps)
        if not _same(again[-1], values[-1]):
            raise ModuleFailed(
                "the module's forward gives another prediction for the same inputs: it draws at random, or keeps "
                "something from call to call"
            )
        raise ModuleFailed(
            "the module's forward gives another prediction for a sequence alone than in a batch: the rows of a batch "
            "depend on one another; is an nn.LSTM without batch_first given (batch, time, feature)?"
        )

    def changed(self) -> Tensor:
        """The inputs with another value in the middle of the last row."""
        inputs = self._inputs.clone()
        row = inputs[-1, inputs.shape[1] // 2]
        row += 1 if row.is_floating_point() else torch.where(row == 0, 1, -1)  # an id must stay one
        return inputs

    def read(self, calls: Calls) -> dict[str, Tensor]:
        """What each LSTM read for the last row, (time, feature); those whose calls are no one run are missing."""
        found = {}
        for name, heard in calls.items():
            try:
                found[name] = Run.of(name, self._lstms[name], heard, len(self._inputs)).inputs[-1]
            except InvalidInput:
                continue
        return found

    def is_aligned(self, before: Tensor, after: Tensor) -> bool:
        """Whether the change shows at its own step, and nowhere else."""
        steps = self._inputs.shape[1]
        if before.shape != after.shape or len(before) != steps:
            return False
        return (before != after).any(dim=1).nonzero()[:, 0].tolist() == [steps // 2]


def _same(given: Tensor, other: Tensor) -> bool:
    return float((given - other).abs().max()) <= _TOLERANCE * (1 + float(other.abs().max()))
