"""`Retention`: how a cell keeps its state from step to step, read from its equations.

The LSTM has c_t = f_t·c_{t−1} + i_t·g_t, the GRU h_t = z_t·h_{t−1} + (1 − z_t)·n_t: both keep a share of the state of
the step before, and add what is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from gatescope.cells import CELLS, Cell, Factor, Term


@dataclass(frozen=True)
class Retention:
    """The state that a cell keeps, the gate that keeps it, and what is written into it."""

    state: str  # cell_state of an LSTM, hidden_state of a GRU
    gate: str  # forget_gate of an LSTM, update_gate of a GRU
    written: Term  # input_gate·cell_candidate, or (1 − update_gate)·candidate

    @property
    def written_signals(self) -> tuple[str, ...]:
        """The signals that `added` reads."""
        return tuple(factor.name for factor in self.written.factors)

    def added(self, signals: Mapping[str, Tensor]) -> Tensor:
        """What each step writes into the state, from the signals at the same step; any shape."""
        first, *others = (_applied(factor, signals) for factor in self.written.factors)
        return reduce(torch.mul, others, first)


def retention_of(cell: Cell) -> Retention | None:
    """How the cell keeps its state; None where no gate does, as in a plain recurrent network."""
    for update in cell.updates:
        kept = next((term for term in update.terms if _keeps(term, update.state)), None)
        if kept is None:
            continue
        gate = next(factor.name for factor in kept.factors if not factor.is_previous)
        (written,) = (term for term in update.terms if term is not kept)
        return Retention(update.state, gate, written)
    return None


def _keeps(term: Term, state: str) -> bool:
    return any(factor.name == state and factor.is_previous for factor in term.factors)


def _applied(factor: Factor, signals: Mapping[str, Tensor]) -> Tensor:
    value = signals[factor.name]
    return value if factor.function is None else factor.function.apply(value)


RETAINING = tuple(dict.fromkeys(cell.name for cell in CELLS if retention_of(cell) is not None))
"""The cells that have a gate which keeps their state."""
