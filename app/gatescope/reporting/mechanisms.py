"""Units that do one thing exactly: count, latch, or hold an input for some steps.

Each is defined, not estimated: a network of random weights on noise is nowhere near these bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gatescope.reporting.finding import Finding
from gatescope.reporting.recording import Recording
from gatescope.reporting.redrawn import shortened, subjects

KEEPS = 0.95
"""The mean of a gate that keeps the state, at least."""

FEWEST_STEPS = 20

STEP_ERROR = 0.2
"""Of a counter: the deviation of its changes from −q, 0 and q, in parts of q; normal numbers have 0.36."""

MOVED = 0.02
"""Of a counter: the share of steps at which it counts, at least."""

LEVELS = 3
"""Of a counter: how many steps q its state moves, at least."""

OPEN, SHUT = 0.8, 0.15
"""Of a latch: the mean of its input gate where it is open, and where it is not."""

TELLS = 0.95
"""Of a latch: the area under the ROC curve of the one input that opens it."""

HOLDS, OTHER_LAGS = 0.6, 0.5
"""Of a delay: the rank correlation at its lag, and the most at other lags, in parts of it."""

HOLDS_ONE, OTHER_THAN_ONE = 0.95, 0.3
"""Of a delay of one step, as many a unit of any recurrent network is mostly made of the step before."""

MOST_LAGS = 50
MOST_INPUTS = 64
MOST = 3


def counts(recording: Recording) -> list[Finding]:
    """Units whose state moves by −q, 0 or q at each step, over several such steps; the most exact first."""
    changes, state, keeping = recording.changes, recording.state, recording.keeping
    found = []
    for column, place in enumerate(recording.places):
        if keeping is not None and keeping[:, column].mean() < KEEPS:
            continue
        own = changes[:, column]
        step, error = _step_of(own[~np.isnan(own)])
        if step == 0 or error > STEP_ERROR or np.ptp(state[:, column]) < LEVELS * step:
            continue
        figures: dict[str, Any] = {
            "step": step,
            "error": error,
            "lowest": float(state[:, column].min()),
            "highest": float(state[:, column].max()),
            "changes": _by_input(recording, own),
        }
        if keeping is not None:
            figures["gate_mean"] = float(keeping[:, column].mean())
        found.append(Finding("counts", place, figures))
    return sorted(found, key=lambda each: each.figures["error"])[:MOST]


def latches(recording: Recording) -> list[Finding]:
    """Units that are written at one input alone, and keep their state at all others."""
    opening, keeping = recording.opening, recording.keeping
    if opening is None or keeping is None:
        return []
    inputs = events(recording)
    found = []
    for column, place in enumerate(recording.places):
        gate, is_open = opening[:, column], opening[:, column] > 0.5  # noqa: PLR2004 - half open
        if not 1 <= is_open.sum() <= len(gate) // 2 or gate[is_open].mean() < OPEN or gate[~is_open].mean() > SHUT:
            continue
        kept, moved = keeping[~is_open, column], recording.changes[~is_open, column]
        reach = np.ptp(recording.state[:, column])
        if kept.mean() < KEEPS or reach == 0 or np.sqrt(np.nanmean(moved**2)) > (1 - KEEPS) * reach:
            continue
        name, area = _opened_by(is_open, inputs)
        if area < TELLS:
            continue
        figures = {
            "input": name,
            "area": area,
            "open": float(gate[is_open].mean()),
            "shut": float(gate[~is_open].mean()),
            "gate_mean": float(kept.mean()),
            "steps": int(is_open.sum()),
            "written": float(recording.state[is_open, column].mean()),
        }
        found.append(Finding("latches", place, figures))
    return sorted(found, key=lambda each: -each.figures["area"])[:MOST]


def remembers(recording: Recording) -> list[Finding]:
    """Units that hold an input of exactly k steps ago: the rank correlation is high at that lag and no other.

    Of plain networks with few inputs some unit does so by chance; k must be more than of any network with the same
    typical weights in no order.
    """
    found = _delays(recording)
    if not found:
        return []
    others = (Recording.of(each, "state") for each in subjects(shortened(recording.subject)))
    longest = max((each.figures["steps"] for other in others for each in _delays(other)), default=0)
    beyond = [each for each in found if each.figures["steps"] > longest]
    return sorted(beyond, key=lambda each: -each.figures["steps"])


def _delays(recording: Recording) -> list[Finding]:
    inputs = events(recording)
    lags = range(min(MOST_LAGS, max(recording.lengths) // 4) + 1)
    if not inputs or len(lags) < 3 or len(recording.state) < FEWEST_STEPS:  # noqa: PLR2004 - a lag and two others
        return []
    series, state = _ranks(np.stack(list(inputs.values()), axis=1)), _ranks(recording.state)
    reverse = np.array([place.direction == "reverse" for place in recording.places])
    r = np.stack([_correlations(recording, series, state, lag, reverse) for lag in lags])  # (lag, input, column)
    found = []
    for column, place in enumerate(recording.places):
        size = np.abs(r[:, :, column])
        lag, index = np.unravel_index(size.argmax(), size.shape)
        others = np.delete(size[:, index], lag)
        least, most = (HOLDS_ONE, OTHER_THAN_ONE) if lag == 1 else (HOLDS, OTHER_LAGS)
        if lag == 0 or size[lag, index] < least or others.max() > most * size[lag, index]:
            continue
        figures = {
            "input": list(inputs)[index],
            "steps": int(lag),
            "r": float(r[lag, index, column]),
            "r_other": float(others.max()),
        }
        found.append(Finding("remembers", place, figures))
    return found


def events(recording: Recording) -> Mapping[str, np.ndarray]:
    """(step,) each input that could open a unit: whether each token is read, or the features."""
    tokens, subject = recording.subject.tokens, recording.subject
    if tokens is not None:
        flat = np.array([token for row in tokens for token in row])
        known, counts_ = np.unique(flat, return_counts=True)
        often = known[np.argsort(-counts_, kind="stable")][:MOST_INPUTS]
        return {repr(str(name)): (flat == name).astype(float) for name in often} if len(known) > 1 else {}
    names = subject.input_names or [f"input {index}" for index in range(recording.inputs.shape[1])]
    columns = recording.inputs.T
    kept = [(name, column) for name, column in zip(names, columns, strict=True) if np.ptp(column) > 0]
    return dict(kept[:MOST_INPUTS])


def _step_of(changes: np.ndarray) -> tuple[float, float]:
    """The q of changes (step,) near −q, 0 and q, and their deviation from these in parts of q; 0 if there is none."""
    sizes = np.abs(changes)
    if len(sizes) < FEWEST_STEPS or sizes.max() == 0:
        return 0.0, np.inf
    step = float(np.quantile(sizes[sizes > sizes.max() / 4], 0.5))
    for _ in range(10):
        step = float(sizes[sizes > step / 2].mean())
    moved = sizes > step / 2
    error = np.where(moved, sizes - step, sizes) ** 2
    if moved.sum() < max(FEWEST_STEPS / 2, MOVED * len(sizes)):
        return 0.0, np.inf
    return step, float(np.sqrt(max(error.mean(), error[moved].mean())) / step)


def _by_input(recording: Recording, changes: np.ndarray) -> dict[str, list[float]]:
    """Token -> the mean and the deviation of the changes where it is read; of models that read tokens."""
    if recording.subject.tokens is None:
        return {}
    known = ~np.isnan(changes)
    made = {}
    for name, is_read in list(events(recording).items())[:8]:
        own = changes[known & (is_read > 0)]
        if len(own):
            made[name] = [float(own.mean()), float(own.std())]
    return made


def _opened_by(is_open: np.ndarray, inputs: Mapping[str, np.ndarray]) -> tuple[str, float]:
    """The input that tells best where the gate is open, and how well: the area under the ROC curve."""
    best = "", 0.0
    inside = int(is_open.sum())
    for name, values in inputs.items():
        ranks = _raw_ranks(values)
        area = (ranks[is_open].sum() - inside * (inside + 1) / 2) / (inside * (len(values) - inside))
        best = max(best, (name, float(max(area, 1 - area))), key=lambda pair: pair[1])
    return best


def _correlations(
    recording: Recording, series: np.ndarray, state: np.ndarray, lag: int, reverse: np.ndarray
) -> np.ndarray:
    """(input, column) the rank correlation of the state with the input so many steps before."""
    made = np.zeros((series.shape[1], state.shape[1]))
    for columns, steps in ((~reverse, lag), (reverse, -lag)):
        if columns.any():
            moved = recording.delayed(series, steps)
            known = ~np.isnan(moved[:, 0])
            made[:, columns] = _pearson(moved[known], state[known][:, columns])
    return made


def _pearson(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(step, a), (step, b) -> (a, b)."""
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    scale = np.sqrt(np.outer((left**2).sum(axis=0), (right**2).sum(axis=0)))
    made: np.ndarray = np.divide(left.T @ right, scale, out=np.zeros_like(scale), where=scale > 1e-12)  # noqa: PLR2004
    return made


def _raw_ranks(column: np.ndarray) -> np.ndarray:
    """(step,) from 1; equal values share the mean of theirs."""
    _, inverse, number = np.unique(column, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (number.cumsum() - (number - 1) / 2)[inverse]
    return ranks


def _ranks(values: np.ndarray) -> np.ndarray:
    """(step, column) the ranks of each column, in parts of their number."""
    return np.stack([_raw_ranks(column) for column in values.T], axis=1) / len(values)
