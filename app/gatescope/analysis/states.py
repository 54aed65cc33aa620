"""The state of each unit at every step of every sequence, as series that can be compared with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gatescope.analysis.subject import Subject
from gatescope.cells import Cell
from gatescope.errors import InvalidInput, Place


def state_of(cell: Cell) -> str:
    """The signal that is a unit's memory: the cell state of an LSTM, else the hidden state."""
    return cell.states[-1]


@dataclass(frozen=True)
class States:
    """The states of the units of a scope over all steps, sequences one after another."""

    values: np.ndarray  # (step, unit of any layer and direction), float64
    lengths: list[int]
    shape: tuple[int, int, int]  # (layer, direction, unit)

    @classmethod
    def of(cls, subject: Subject) -> States:
        """Of all sequences of a subject."""
        name = state_of(subject.spec.cell)
        signal = subject.signals(name)[name].double().cpu()  # (batch, layer, direction, time, unit)
        _, layers, directions, _, units = signal.shape
        rows = [
            row[:, :, :length].permute(2, 0, 1, 3).reshape(length, -1).numpy()
            for row, length in zip(signal, subject.lengths, strict=True)
        ]
        return cls(np.concatenate(rows), subject.lengths, (layers, directions, units))

    @property
    def edges(self) -> list[int]:
        """Where each sequence begins, and behind them the number of all steps."""
        return [0, *np.cumsum(self.lengths).tolist()]

    def rolled(self, series: np.ndarray, offsets: Sequence[int]) -> np.ndarray:
        """A series (step,) with each sequence's part shifted in a circle by an offset of its own."""
        spans = zip(pairwise(self.edges), offsets, strict=True)
        return np.concatenate([np.roll(series[start:stop], offset) for (start, stop), offset in spans])

    def delayed(self, series: np.ndarray, steps: int) -> np.ndarray:
        """A series (…, step) with each sequence's part moved so many steps later; NaN where nothing was."""
        moved, edges = np.full_like(series, np.nan), self.edges
        for start, stop in pairwise(edges):
            first, last = max(start, start + steps), min(stop, stop + steps)
            if first < last:
                moved[..., first:last] = series[..., first - steps : last - steps]
        return moved

    def by_unit(self, values: np.ndarray) -> np.ndarray:
        """(…, unit of any layer and direction) -> (…, layer, direction, unit)."""
        return values.reshape(*values.shape[:-1], *self.shape)


def check_lengths(given: Sequence[Sequence[object]], lengths: Sequence[int], *place: str | int) -> None:
    """Refuse what has not one entry for each step of each sequence; raises `InvalidInput`."""
    if len(given) != len(lengths):
        message = f"has {len(given)} sequences; {len(lengths)} were given"
        raise InvalidInput.at(Place(place, message))
    for row, (values, length) in enumerate(zip(given, lengths, strict=True)):
        if len(values) != length:
            message = f"has {len(values)} steps; the sequence has {length}"
            raise InvalidInput.at(Place((*place, row), message))
