"""How soon a difference is forgotten: the same inputs from two initial states, and with one input changed.

Shown is the distance of the top layer's hidden states, in L2, relative to its first value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field
from torch import Tensor

from gatescope.analysis.analysis import EVERY_CELL, Analysis, OneSequence
from gatescope.analysis.result import Findings
from gatescope.analysis.subject import Subject
from gatescope.selection import Selection
from gatescope.state import State

FORGOTTEN = 0.01
"""What stays below this share of its first value is forgotten."""

CHANGES = ("initial_state", "input")


class MemoryParameters(OneSequence):
    """Which input is changed."""

    changed_step: int = Field(default=0, ge=0)
    """The time step whose input is replaced by the mean over the sequence."""

    def check(self, subject: Subject) -> None:
        """Refuse a sequence or time step that is not there."""
        subject.only(self.sequence).step(self.changed_step)


def memory(subject: Subject, parameters: Any) -> Findings:
    """Distances of three runs; the other initial state is where the sequence ends.

    Of a bidirectional module it is the forward direction that is looked at.
    """
    one = subject.only(parameters.sequence)
    changed = one.step(parameters.changed_step)
    selection = Selection(signals=("hidden_state",), layers=(one.spec.num_layers - 1,), directions=("forward",))
    hidden, ended = _run(one, one.inputs, one.initial_state, selection)
    other = _forward_only(one, ended)
    inputs = one.inputs.clone()
    inputs[0, changed] = one.inputs[0].mean(0)
    begins = [(0, _run(one, one.inputs, other, selection)[0])]
    begins.append((changed, _run(one, inputs, one.initial_state, selection)[0]))
    distance = np.stack([_relative(hidden - changed_run, start) for start, changed_run in begins])
    after = np.array([_forgotten_after(row, start) for row, (start, _) in zip(distance, begins, strict=True)])
    notes = [
        f"the change of the {name.replace('_', ' ')} is not forgotten within the sequence"
        for name, steps in zip(CHANGES, after, strict=True)
        if np.isnan(steps)
    ]
    arrays = {"distance": distance, "forgotten_after": after}
    return Findings(arrays, {"change": CHANGES, "time_step": range(one.lengths[0])}, notes=notes)


def _run(subject: Subject, inputs: Tensor, state: State, selection: Selection) -> tuple[Tensor, State]:
    """The top layer's hidden states (time, unit), and where the run ends."""
    traced = subject.with_run(inputs, state).trace(selection)
    return traced.hidden_state[0, 0, 0].double().cpu(), traced.final_state


def _forward_only(subject: Subject, ended: State) -> State:
    """Where the run began, but with the forward directions where it ended."""
    every = subject.spec.num_directions
    made = [value.clone() for value in subject.initial_state]
    for value, end in zip(made, ended, strict=True):
        value[::every] = end[::every].to(value)
    return State(*made)


def _relative(difference: Tensor, start: int) -> np.ndarray:
    """(time, unit) -> (time,) relative to the first; 0 before it, NaN where the change changes nothing."""
    norms = difference.norm(dim=-1).numpy()
    first = norms[start]
    relative: np.ndarray = norms / first if first > 0 else np.full_like(norms, np.nan)
    relative[:start] = 0
    return relative


def _forgotten_after(relative: np.ndarray, start: int) -> float:
    """How many steps after the change it is below `FORGOTTEN` for good; NaN if that is not within the sequence."""
    above = np.flatnonzero(~(relative[start:] < FORGOTTEN))
    after = 0 if not len(above) else int(above[-1]) + 1
    return float(after) if after < len(relative) - start else np.nan


ANALYSIS = Analysis(
    name="memory",
    title="How soon a difference is forgotten",
    question="For how many steps does it matter where a sequence began, or what one input was?",
    arrays={"distance": ("change", "time_step"), "forgotten_after": ("change",)},
    cells=EVERY_CELL,
    parameters=MemoryParameters,
    run=memory,
)
