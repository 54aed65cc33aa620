"""`Recording`: every signal of every unit over all steps, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gatescope.analysis.retention import Retention, retention_of
from gatescope.analysis.states import state_of
from gatescope.analysis.subject import Subject
from gatescope.reporting.finding import Place

Floats = np.ndarray


@dataclass(frozen=True)
class Recording:
    """What a run shows, sequences one after another.

    Args:
        subject: that was run.
        signals: each (step, column) float64; a column is a unit of a layer and direction.
        inputs: (step, feature), as the recurrent module read them.
        lengths: of each sequence.
    """

    subject: Subject
    signals: dict[str, Floats]
    inputs: Floats
    lengths: list[int]

    @classmethod
    def of(cls, subject: Subject, only: Literal["gates", "state"] | None = None) -> Recording:
        """Run it.

        Args:
            subject: a whole one, of all units.
            only: the signals that are needed; all when not given.
        """
        spec = subject.spec
        gates = tuple(gate.name for gate in spec.cell.gates if (gate.activation.low, gate.activation.high) == (0, 1))
        every = tuple(name for name in spec.cell.default_signal_names if _fits(subject, name))
        names = {"gates": gates, "state": (state_of(spec.cell),), None: every}[only]
        found = subject.signals(*names) if names else {}
        signals = {name: _columns(values, subject.lengths) for name, values in found.items()}
        rows = zip(subject.inputs, subject.lengths, strict=True)
        inputs = np.concatenate([row[:length].double().cpu().numpy() for row, length in rows])
        return cls(subject, signals, inputs, subject.lengths)

    @property
    def retention(self) -> Retention | None:
        """How the cell keeps its state."""
        return retention_of(self.subject.spec.cell)

    @cached_property
    def places(self) -> list[Place]:
        """The unit of each column."""
        scope = self.subject.scope
        return [
            Place(layer, direction, unit)
            for layer in scope.layers
            for direction in scope.directions
            for unit in scope.units
        ]

    @property
    def gates(self) -> list[str]:
        """The signals between 0 and 1."""
        gates = self.subject.spec.cell.gates
        return [gate.name for gate in gates if (gate.activation.low, gate.activation.high) == (0, 1)]

    @property
    def state(self) -> Floats:
        """(step, column) the memory of each unit: the cell state of an LSTM, else the hidden state."""
        return self.signals[state_of(self.subject.spec.cell)]

    @property
    def keeping(self) -> Floats | None:
        """(step, column) the gate that keeps the state; None of cells without one."""
        return None if self.retention is None else self.signals[self.retention.gate]

    @property
    def opening(self) -> Floats | None:
        """(step, column) how much of what is new is written: the input gate, or 1 minus the update gate."""
        if self.retention is None or self.keeping is None:
            return None
        name = self.retention.written.factors[0].name
        return 1 - self.keeping if name == self.retention.gate else self.signals[name]

    @property
    def edges(self) -> list[int]:
        """Where each sequence begins, and behind them the number of all steps."""
        return [0, *np.cumsum(self.lengths).tolist()]

    @cached_property
    def changes(self) -> Floats:
        """(step, column) what each step adds to the state; NaN at the first step that a direction reads."""
        made = np.full_like(self.state, np.nan)
        reverse = np.array([place.direction == "reverse" for place in self.places])
        for start, stop in pairwise(self.edges):
            steps = np.diff(self.state[start:stop], axis=0)
            made[start + 1 : stop][:, ~reverse] = steps[:, ~reverse]
            made[start : stop - 1][:, reverse] = -steps[:, reverse]
        return made

    def delayed(self, values: Floats, steps: int) -> Floats:
        """(step, …) with each sequence's part moved so many steps later, NaN where nothing was; any sign."""
        moved = np.full(values.shape, np.nan)
        for start, stop in pairwise(self.edges):
            first, last = max(start, start + steps), min(stop, stop + steps)
            if first < last:
                moved[first:last] = values[first - steps : last - steps]
        return moved


def _fits(subject: Subject, name: str) -> bool:
    """Whether the signal has a value for each unit; a projected one has not."""
    return subject.spec.proj_size == 0 or not subject.spec.cell.is_projected(name)


def _columns(values: Tensor, lengths: list[int]) -> Floats:
    """(batch, layer, direction, time, unit) -> (step, column)."""
    rows = [
        row[:, :, :length].permute(2, 0, 1, 3).flatten(1).to(torch.float64).cpu().numpy()
        for row, length in zip(values, lengths, strict=True)
    ]
    return np.concatenate(rows)
