"""`Strip`: a unit over time, as a report draws it, and the places where its state is strongest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gatescope.reporting.finding import Place
from gatescope.reporting.recording import Recording

MOST_STEPS = 800
MOST_PLACES = 3
CONTEXT = 12
"""Tokens before a place that are shown with it."""


@dataclass(frozen=True)
class Strip:
    """One unit in one sequence.

    Args:
        sequence: which one.
        start: the first time step that is shown.
        state: what the state is called.
        signals: each (step,) of the state and the gates.
        series: each (step,) of the series that the unit follows; NaN where nothing is known.
        labels: of each step: a token, or a time; empty where neither is known.
        strongest: the places, in the whole input, where the state is highest and lowest.
    """

    sequence: int
    start: int
    state: str
    signals: Mapping[str, np.ndarray]
    series: Mapping[str, np.ndarray]
    labels: Sequence[str]
    strongest: Sequence[Strongest]


@dataclass(frozen=True)
class Strongest:
    """A place where a state is high or low: a sequence, a time step of it, the value, and what stands there."""

    sequence: int
    time_step: int
    value: float
    label: str


def strip_of(
    recording: Recording, place: Place, series: Mapping[str, np.ndarray], labels: Sequence[Sequence[str]] | None
) -> Strip:
    """The strip of one unit, from the sequence in which it moves most.

    Args:
        recording: of the run.
        place: the unit.
        series: (step,) of all sequences, those that it follows.
        labels: of each step of each sequence.
    """
    column, edges = recording.places.index(place), recording.edges
    state = recording.state[:, column]
    moves = [float(np.ptp(state[start:stop])) for start, stop in pairwise(edges)]
    sequence = int(np.argmax(moves))
    first, last = edges[sequence], edges[sequence + 1]
    start = _window(state[first:last])
    part = slice(first + start, min(first + start + MOST_STEPS, last))
    shown = [recording.subject.spec.cell.states[-1], *recording.gates]
    return Strip(
        sequence,
        start,
        shown[0],
        {name: recording.signals[name][part, column] for name in shown if name in recording.signals},
        {name: values[part] for name, values in series.items()},
        list(labels[sequence][start : start + MOST_STEPS]) if labels is not None else [],
        _strongest(recording, state, labels),
    )


def _window(state: np.ndarray) -> int:
    """The first step of a window around where the state is furthest from its mean."""
    if len(state) <= MOST_STEPS:
        return 0
    furthest = int(np.abs(state - state.mean()).argmax())
    return max(0, min(furthest - MOST_STEPS // 2, len(state) - MOST_STEPS))


def _strongest(recording: Recording, state: np.ndarray, labels: Sequence[Sequence[str]] | None) -> list[Strongest]:
    """Where the state is highest, then where it is lowest; places of a kind are some steps apart."""
    edges, made = np.array(recording.edges), []
    is_text = recording.subject.tokens is not None
    for order in (np.argsort(-state, kind="stable"), np.argsort(state, kind="stable")):
        chosen: list[int] = []
        for step in order[: 50 * MOST_PLACES]:
            if all(abs(step - other) > CONTEXT for other in chosen):
                chosen.append(int(step))
            if len(chosen) == MOST_PLACES:
                break
        for step in chosen:
            row = int(np.searchsorted(edges, step, "right")) - 1
            within = step - int(edges[row])
            label = "" if labels is None else _label(labels[row], within, is_text=is_text)
            made.append(Strongest(row, within, float(state[step]), label))
    return made


def _label(labels: Sequence[str], step: int, *, is_text: bool) -> str:
    """The time of a step, or its token with those before it."""
    if not is_text:
        return labels[step]
    separator = "" if all(len(each) <= 1 for each in labels) else " "
    return separator.join(labels[max(0, step - CONTEXT) : step + 1])
