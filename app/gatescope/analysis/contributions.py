"""What each time step wrote into a state, and how much of it is left at a later step.

With R_{s→T} = f_{s+1}·…·f_T, the state of an LSTM is c_T = Σ_s R_{s→T}·i_s·g_s + R_{0→T}·c_0, and that of a GRU the
same with its update gate. Products of many gates are sums of logarithms in float64, so that 100,000 steps do not
underflow.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gatescope.analysis.retention import Retention, retention_of
from gatescope.analysis.subject import Subject


class Contributions(NamedTuple):
    """Of one layer and direction of one sequence, up to one time step; float64."""

    steps: range  # those that the direction has read by then, in input time
    written: Tensor  # (time, unit) what is left at the step of what each step wrote
    initial: Tensor  # (unit,) what is left of the initial state
    state: Tensor  # (unit,) the state at the step, as it was traced
    is_hidden: bool  # whether the state is the hidden state itself, as in a GRU


def contributions(subject: Subject, layer: int, direction: str, time_step: int) -> Contributions:
    """The parts of the state of each unit of the scope.

    Args:
        subject: one sequence, through a cell that keeps its state by a gate.
        layer: which layer.
        direction: which of its directions.
        time_step: in input time, counted from the start of the sequence.
    """
    cell = subject.spec.cell
    retention = retention_of(cell)
    if retention is None:
        raise TypeError(f"the cell '{cell.name}' has no gate that keeps its state")
    part = subject.at(layer, direction)
    names = {retention.gate, retention.state, *retention.written_signals}
    traced = {name: values[0, 0, 0].to("cpu", torch.float64) for name, values in part.signals(*sorted(names)).items()}
    steps = range(time_step + 1) if direction == "forward" else range(time_step, subject.lengths[0])
    read = {name: values[steps.start : steps.stop] for name, values in traced.items()}  # (time, unit)
    if direction == "reverse":
        read = {name: values.flip(0) for name, values in read.items()}
    written, initial = _left(read, retention, _initial(part, retention))
    return Contributions(
        steps,
        written if direction == "forward" else written.flip(0),
        initial,
        read[retention.state][-1],
        retention.state == cell.states[0],
    )


def _left(signals: dict[str, Tensor], retention: Retention, initial: Tensor) -> tuple[Tensor, Tensor]:
    """What is left at the last step, (time, unit) and (unit,), of signals in the order in which they were read."""
    backwards = signals[retention.gate].flip(0)
    sign = backwards.sign().cumprod(0)  # a gate of a variant may be negative
    products = (backwards.abs().log().cumsum(0).exp() * sign).flip(0)  # f_s·…·f_T for each s
    kept = torch.cat([products[1:], torch.ones_like(products[:1])])
    return retention.added(signals).mul_(kept), initial * products[0]


def _initial(subject: Subject, retention: Retention) -> Tensor:
    """(unit,) the initial state of the only layer and direction of the scope."""
    scope, spec = subject.scope, subject.spec
    entry = scope.layers[0] * spec.num_directions + spec.directions.index(scope.directions[0])
    state = subject.initial_state[spec.cell.states.index(retention.state)][entry, 0]
    return state.to("cpu", torch.float64)[list(scope.units)]
