"""The prediction of a program as a function of the output of one of its recurrent modules.

The program runs again, and its caller reads another output of that module than its own. That is the prediction as a
function of the output only where nothing else of the module is read: not its cell state, nor what it made of its own
output before. `trial` finds that out with random numbers, and whether autograd's gradients are those of finite
differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gatescope.analysis.analysis import Need
from gatescope.capture import Call, RecurrentModule, Run, over_time
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.program.output_shape import OutputShape
from gatescope.pipeline.program.program import Program
from gatescope.spec import Spec
from gatescope.state import State

_TOLERANCE = 1e-4  # of float32, summed in another order
_DIFFERENCE = 1e-2  # of a finite difference, in deviations of the output: curvature and rounding are far below 1 %
_GRADIENT_TOLERANCE = 0.05  # gradients that are cut off somewhere are off by more


@dataclass(frozen=True)
class Refusals:
    """Why a module has no head, or one without gradients, as the end of a sentence; None where it has."""

    head: str | None = None
    gradient: str | None = None

    @property
    def by_need(self) -> dict[Need, str]:
        """The reasons that there are."""
        found: dict[Need, str | None] = {"head": self.head, "gradient": self.gradient}
        return {need: reason for need, reason in found.items() if reason is not None}


class ReplacedOutput:
    """The output of a module's calls, step by step; a `Replace`.

    The hidden state of the top layer follows from it; the other states are the module's own.

    Args:
        name: of the module, for messages.
        module: the recurrent module.
        output: (batch, time, directions · unit); anything in the padding.
        read: (batch, time, feature) what the module reads; it must read the same again.
        change: what becomes of the states that do not follow from the output.
    """

    def __init__(
        self,
        name: str,
        module: RecurrentModule,
        output: Tensor,
        read: Tensor,
        change: Callable[[Tensor], Tensor] = torch.Tensor.clone,
    ) -> None:
        self._name, self._spec = name, Spec.from_module(over_time(module))
        self._output, self._read, self._change, self._start = output, read, change, 0

    def __call__(self, call: Call) -> tuple[Tensor, State]:
        """The output and the final state of a call; raises `InvalidInput` where it reads other inputs than before."""
        rows, steps, _ = call.inputs.shape
        stop = self._start + steps
        if (rows, stop) > (len(self._output), self._output.shape[1]) or rows != len(self._output):
            raise _refused(f"'{self._name}' runs over other steps than before: send each sequence alone")
        if not _same(call.inputs, self._read[:, self._start : stop]):
            raise _refused(_fed_back(self._name))
        output = self._output[:, self._start : stop].clone()
        self._start = stop
        return output, self._state(call, output)

    def _state(self, call: Call, output: Tensor) -> State:
        directions = self._spec.num_directions
        last = call.lengths.to(output.device) - 1
        ends = [last, torch.zeros_like(last)][:directions]  # where each direction ends, in input time
        rows = torch.arange(len(output), device=output.device)
        top = [part[rows, end] for part, end in zip(output.chunk(directions, dim=-1), ends, strict=True)]
        hidden, *others = call.final_state
        below = self._change(hidden[:-directions])
        return State(torch.cat([below, torch.stack(top).to(hidden)]), *map(self._change, others))


def trial(name: str, program: Program, output_shape: OutputShape | None, inputs: Tensor) -> Refusals:
    """Whether a module has a head, and gradients of it.

    Args:
        name: of the recurrent module.
        program: around it.
        output_shape: of its predictions; None where it has none.
        inputs: (batch, time, …) random, as the program takes them.
    """
    if output_shape is None:
        return Refusals(head="the model predicts nothing")
    tried = _Trial(name, program, output_shape, inputs)
    try:
        reason = tried.head_refusal()
    except InvalidInput as error:
        reason = error.places[0].message if error.places else str(error)
    return Refusals(head=reason) if reason is not None else Refusals(gradient=tried.gradient_refusal())


class _Trial:
    def __init__(self, name: str, program: Program, output_shape: OutputShape, inputs: Tensor) -> None:
        self.name, self.program, self.shape, self.inputs = name, program, output_shape, inputs
        self.module, self.lengths = program.recurrent[name], torch.full((len(inputs),), inputs.shape[1])
        self.random = torch.Generator().manual_seed(0)

    def head_refusal(self) -> str | None:
        """Why there is no head; raises `InvalidInput` with the reason where the module's calls are not one run."""
        returned, calls = self.program.call(self.inputs, self.lengths, None, (self.name,))
        self.run = Run.of(self.name, self.module, calls.get(self.name, []), len(self.inputs))
        if self.shape.per_step and not torch.equal(self.run.lengths, self.lengths):
            steps = f"{int(self.run.lengths.max())} steps of its own, and predictions {self.inputs.shape[1]}"
            return f"'{self.name}' has {steps}: which step belongs to which is not known"
        own = self._read(returned.prediction)
        if not _same(self.predicted(self.run.output), own):
            return f"the prediction follows from '{self.name}' in another way than through what its calls return"
        other = self.noise(self.run.output)
        if not _same(self.predicted(other, self.noise), self.predicted(other)):
            return (
                f"the prediction reads a state of '{self.name}' that is no part of its output (a cell state, or that "
                "of a lower layer): look at the module that reads it, or edit signals with interventions"
            )
        return None

    def gradient_refusal(self) -> str | None:
        """Why autograd gives no gradients of the prediction, or others than those of finite differences."""
        if self.program.runs_elsewhere:
            return "it is run by ONNX Runtime, which gives no gradients: serve what torch.export or a module gives"
        output = self.run.output
        way = self.noise(output) * output.std().clamp_min(1e-6)
        with torch.enable_grad():
            leaf = output.clone().requires_grad_()
            predicted = self.predicted(leaf)
        with torch.no_grad():
            ahead, behind = (self.predicted(output + sign * _DIFFERENCE * way) for sign in (1, -1))
            change = (ahead - behind) / (2 * _DIFFERENCE)
        if float(change.abs().max()) * 2 * _DIFFERENCE <= _TOLERANCE * (1 + float(ahead.abs().max())):
            return None  # it does not depend on the output, or by less than rounding shows
        gradient = None
        if predicted.requires_grad:
            (gradient,) = torch.autograd.grad((predicted * change).sum(), leaf, allow_unused=True)
        slope = 0.0 if gradient is None else float((gradient * way).sum())
        if abs(slope / float(change.square().sum()) - 1) <= _GRADIENT_TOLERANCE:
            return None
        return (
            f"autograd's gradient through what reads '{self.name}' is not that of finite differences: its code cuts "
            "gradients off (detach, no_grad, NumPy), or jumps"
        )

    def predicted(self, output: Tensor, change: Callable[[Tensor], Tensor] = torch.Tensor.clone) -> Tensor:
        """The prediction where the caller reads this output, and the other states changed so."""
        replaced = ReplacedOutput(self.name, self.module, output, self.run.inputs, change)
        returned, _ = self.program.call(self.inputs, self.lengths, None, (self.name,), {self.name: replaced})
        return self._read(returned.prediction)

    def noise(self, like: Tensor) -> Tensor:
        """Random numbers of the same shape."""
        return torch.randn(like.shape, generator=self.random).to(like)

    def _read(self, prediction: object) -> Tensor:
        return self.shape.read(prediction, self.lengths, self.inputs.shape[1])


def _same(given: Tensor, other: Tensor) -> bool:
    if given.shape != other.shape:
        return False
    return float((given - other).detach().abs().max()) <= _TOLERANCE * (1 + float(other.detach().abs().max()))


def _fed_back(name: str) -> str:
    return (
        f"'{name}' reads what was made of its own output before: its output alone does not say what the prediction is; "
        "edit signals with interventions, which later steps see"
    )


def _refused(message: str) -> InvalidInput:
    return InvalidInput.at(Place(("module",), message))
