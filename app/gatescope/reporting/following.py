"""Units that follow a series, or tell classes of steps apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatescope.analysis.subject import Subject
from gatescope.reporting.finding import Family, Finding, Kind
from gatescope.reporting.partial import partial
from gatescope.reporting.recording import Recording
from gatescope.reporting.redrawn import Largest, largest, shortened
from gatescope.reporting.shifts import compare

MAX_LAG = 5
MOST = 3
MOST_CLASSES = 40
FEWEST_STEPS = 3

_LEAST_Z = 0.05
_CLOSEST = 1 - 1e-9


@dataclass(frozen=True)
class Terms:
    """How series, or classes, are compared.

    Args:
        is_read: whether they are made of what the network reads: any network follows these, so that the best unit of
            networks with the same typical weights must be exceeded, too.
        skipped: steps at the start of each sequence that are left out.
        level: of the family: a finding whose p is no larger stands out.
    """

    is_read: bool
    skipped: int
    level: float


def follows(recording: Recording, series: Mapping[str, np.ndarray], terms: Terms) -> Family:
    """The units whose state follows a series, for each series; each (step,) by name, NaN where nothing is known.

    Whether a unit follows a series that is given is judged by the correlation alone. Which one is told first is judged
    by what it has beyond the inputs of the same step (`partial.py`). Series that are made of what the network reads are
    functions of the inputs: there the correlation gives the order.
    """
    return _found(recording, "follows", series, 0 if terms.is_read else MAX_LAG, terms)


def tells_apart(recording: Recording, classes: Mapping[str, np.ndarray], terms: Terms) -> Family:
    """The units whose state is higher, or lower, at the steps of a class; each class (step,) has 1, 0 and NaN."""
    kept = {
        name: values
        for name, values in classes.items()
        if FEWEST_STEPS <= np.nansum(values) <= (~np.isnan(values)).sum() - FEWEST_STEPS
    }
    if not kept:
        return Family("tells_apart", note=f"No class has {FEWEST_STEPS} steps or more, and as many outside it.")
    names = sorted(kept, key=lambda name: -np.nansum(kept[name]))[:MOST_CLASSES]
    family = _found(recording, "tells_apart", {name: kept[name] for name in names}, 0, terms)
    left_out = len(classes) - len(names)
    note = (
        f"{left_out} of {len(classes)} classes are left out: too few steps, or rarer than others." if left_out else ""
    )
    return Family("tells_apart", family.findings, " ".join(filter(None, (family.note, note))))


def _found(recording: Recording, kind: Kind, series: Mapping[str, np.ndarray], max_lag: int, terms: Terms) -> Family:
    keep, lengths = _kept(recording.lengths, terms.skipped)
    states = recording.state[keep]
    if kind == "tells_apart":
        states = _ranked(states)
    values = np.stack(list(series.values()))[:, keep]
    usable = [index for index, row in enumerate(values) if np.nanstd(row) > 0 and (~np.isnan(row)).sum() > FEWEST_STEPS]
    if not usable:
        return Family(kind, note="No series changes over the steps that are compared.")
    names, values = [list(series)[index] for index in usable], values[usable]
    max_lag = min(max_lag, min(lengths) // 10)
    shifted = compare(states, values, lengths, max_lag)
    control = _control(recording, kind, names, series, keep)
    each = [
        _of_series(
            Compared(recording, kind, name, keep, lengths, max_lag, values[row], control[name], len(names)),
            (shifted.r[row], shifted.lag[row], shifted.p[row]),
            terms,
        )
        for row, name in enumerate(names)
    ]
    each.sort(key=lambda found: min(one.p or 0 for one in found))
    findings = [one for found in each for one in found]
    standing = [one for one in findings if (one.p or 0) <= terms.level]
    note = ""
    if shifted.is_short:
        note = "The sequences are too short, or too few, for shifts of a series to prove much."
    return Family(kind, tuple(standing or findings[:1]), note)


@dataclass(frozen=True)
class Compared:
    """One series beside the states.

    Args:
        recording: of the run.
        kind: of the findings.
        name: of the series.
        keep: (step,) which steps were compared.
        lengths: of each sequence, of these.
        max_lag: in steps.
        values: (kept step,) the series.
        control: the largest |r| of networks with the same typical weights.
        tried: how many series were compared.
    """

    recording: Recording
    kind: Kind
    name: str
    keep: np.ndarray
    lengths: Sequence[int]
    max_lag: int
    values: np.ndarray
    control: Largest
    tried: int


def _of_series(of: Compared, found: tuple[np.ndarray, np.ndarray, np.ndarray], terms: Terms) -> list[Finding]:
    """The units that follow one series, the most telling first; the strongest one where none stands out.

    Args:
        of: the series.
        found: r, lag and p of each column.
        terms: of the comparison.
    """
    r, lag, p = found
    if terms.is_read:
        p = np.maximum(p, [min(1.0, of.tried * of.control.p(value)) for value in _z(r)])
    order = np.argsort(-np.abs(r), kind="stable")
    columns = order[p[order] <= terms.level]
    if not len(columns):
        columns = order[:1]
    beyond = None
    if of.kind == "follows" and not terms.is_read:
        kept = of.recording.state[of.keep][:, columns], of.values, of.recording.inputs[of.keep]
        beyond = partial(*kept, of.lengths, of.max_lag)
    if beyond is not None:
        first = np.argsort(-np.abs(beyond), kind="stable")
        columns, beyond = columns[first], beyond[first]
    findings = []
    for index, column in enumerate(columns[:MOST]):
        figures = _figures(of, int(column), int(lag[column]))
        if beyond is not None:
            figures["beyond_inputs"] = float(beyond[index])
        findings.append(Finding(of.kind, of.recording.places[column], figures, float(p[column])))
    return findings


def _figures(of: Compared, column: int, lag: int) -> dict[str, Any]:
    state = of.recording.state[of.keep, column]
    figures: dict[str, Any] = {"series": of.name, "r": _plain_r(of.recording, column, of.values, lag, of.keep)}
    if of.kind == "tells_apart":
        inside, outside = state[of.values == 1], state[of.values == 0]
        figures |= {"auc": _auc(inside, outside), "inside": float(inside.mean()), "outside": float(outside.mean())}
        figures["steps"] = len(inside)
    else:
        figures["lag"] = lag
    return figures | {"control": float(np.tanh(of.control.usual))}


def _control(
    recording: Recording, kind: Kind, names: Sequence[str], series: Mapping[str, np.ndarray], keep: np.ndarray
) -> dict[str, Largest]:
    """Series -> the largest |r| of any unit of networks with the same typical weights."""
    short = shortened(recording.subject)
    within = _within(recording, short.lengths)
    steps = within & keep
    values = np.stack([series[name][steps] for name in names], axis=1)

    def best(each: Subject) -> np.ndarray:
        states = Recording.of(each, "state").state[steps[within]]
        states = _ranked(states) if kind == "tells_apart" else states
        found: np.ndarray = _z(_correlations(values, states)).max(axis=1)
        return found

    return {name: Largest(row, _LEAST_Z) for name, row in zip(names, largest(short, best).T, strict=True)}


def _within(recording: Recording, lengths: Sequence[int]) -> np.ndarray:
    """(step,) whether a step of the recording is one of a shortened subject."""
    own = [*lengths, *[0] * (len(recording.lengths) - len(lengths))]
    return np.concatenate([np.arange(whole) < part for whole, part in zip(recording.lengths, own, strict=True)])


def _kept(lengths: Sequence[int], skipped: int) -> tuple[np.ndarray, list[int]]:
    """(step,) which steps are compared, and the lengths that are left; all where a sequence would be empty."""
    first = skipped if min(lengths) > 2 * skipped else 0
    keep = np.concatenate([np.arange(length) >= first for length in lengths])
    return keep, [length - first for length in lengths]


def _plain_r(recording: Recording, column: int, values: np.ndarray, lag: int, keep: np.ndarray) -> float:
    """Pearson's r of the state with the series so many steps before, trends included."""
    whole = np.full(len(keep), np.nan)
    whole[keep] = values
    moved, state = recording.delayed(whole, lag)[keep], recording.state[keep, column]
    known = ~np.isnan(moved)
    return float(_correlations(moved[known, None], state[known, None])[0, 0])


def _correlations(series: np.ndarray, states: np.ndarray) -> np.ndarray:
    """(step, series) with NaN, (step, column) -> (series, column)."""
    made = np.zeros((series.shape[1], states.shape[1]))
    for row, values in enumerate(series.T):
        known = ~np.isnan(values)
        left, right = values[known] - values[known].mean(), states[known] - states[known].mean(axis=0)
        scale = np.sqrt((left**2).sum() * (right**2).sum(axis=0))
        made[row] = np.divide(left @ right, scale, out=np.zeros_like(scale), where=scale > 1e-12)  # noqa: PLR2004
    return made


def _z(r: np.ndarray) -> np.ndarray:
    """Fisher's transform of |r|."""
    made: np.ndarray = np.arctanh(np.minimum(np.abs(r), _CLOSEST))
    return made


def _ranked(values: np.ndarray) -> np.ndarray:
    """(step, column) the rank of each step."""
    return values.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable").astype(np.float64)


def _auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """The probability that a step inside is above one outside; equal ones count half."""
    ordered = np.sort(outside)
    below, up_to = np.searchsorted(ordered, inside, "left"), np.searchsorted(ordered, inside, "right")
    return float((below + up_to).mean() / 2 / len(outside))
