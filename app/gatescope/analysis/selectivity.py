"""Units that tell classes of steps apart, such as a part of speech, or being inside a quotation.

For each class and unit: the area under the ROC curve (AUC), the probability that the state at a step of the class is
above that at another step (Mann, Whitney 1947); 0.5 tells nothing. Its p-value is that of the same AUC with the classes
of whole sequences exchanged and rolled, so that runs of one class stay together. q is corrected for the number of units
and classes that were tried (Benjamini, Hochberg 1995).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from gatescope.analysis.analysis import EVERY_CELL, SCOPE_AXES, Analysis, Parameters
from gatescope.analysis.result import Check, Findings
from gatescope.analysis.states import States, check_lengths
from gatescope.analysis.subject import Subject
from gatescope.errors import InvalidInput, Place

PERMUTATIONS = 1000
LEVEL = 0.99
MOST_CLASSES = 40
FEWEST_STEPS = 3
_SEED = 0

Label = str | int | None


class SelectivityParameters(Parameters):
    """What each step is."""

    classes: list[list[Label]] | list[Label] | None = Field(default=None, min_length=1)
    """[batch][time], or [time] of a lone sequence: the class of each step, null of steps without one. The tokens
    themselves if it is not given, for models that read tokens."""

    def check(self, subject: Subject) -> None:
        """Refuse classes of other steps than there are, or of too few."""
        _names(_known(_labels(subject, self.classes)))


def selectivity(subject: Subject, parameters: Any) -> Findings:
    """AUC and q; the check is the largest |AUC − 0.5| of any unit and class with exchanged classes."""
    states = States.of(subject)
    rows = _labels(subject, parameters.classes)
    labels = _known(rows)
    names, notes = _names(labels)
    known = np.array([label is not None for row in rows for label in row])
    ranks = _ranks(states.values[known])
    classes = np.array([[label == name for label in labels] for name in names])
    lengths = [sum(label is not None for label in row) for row in rows]
    auc = _auc(classes, ranks)
    distance = np.abs(auc - 0.5)
    exceeded, largest = np.zeros_like(auc), np.empty(PERMUTATIONS)
    generator = np.random.default_rng(_SEED)
    for index in subject.parts(range(PERMUTATIONS)):
        permuted = np.abs(_auc(classes[:, _exchanged(lengths, generator)], ranks) - 0.5)
        exceeded += permuted >= distance
        largest[index] = permuted.max()
    q = _corrected((1 + exceeded) / (1 + PERMUTATIONS))
    notes.append(f"q: from {PERMUTATIONS} permutations, so that no p-value is below {1 / (1 + PERMUTATIONS):.2g}")
    arrays = {"auc": states.by_unit(auc), "q": states.by_unit(q)}
    return Findings(arrays, {"class": names}, Check("control", float(np.quantile(largest, LEVEL))), notes)


def _labels(subject: Subject, given: Any) -> Sequence[Sequence[Label]]:
    """Of each step of each sequence."""
    if given is None and subject.tokens is None:
        raise InvalidInput.at(Place(("classes",), "this model reads no tokens: say what each step is"))
    rows: Sequence[Sequence[Label]] = given if given is not None else subject.tokens  # type: ignore[assignment]
    if not isinstance(rows[0], list):
        rows = [rows]  # type: ignore[list-item]
    check_lengths(rows, subject.lengths, "classes")
    return rows


def _known(rows: Sequence[Sequence[Label]]) -> list[str | int]:
    """The classes of all steps that have one."""
    return [label for row in rows for label in row if label is not None]


def _names(labels: Sequence[str | int]) -> tuple[list[str | int], list[str]]:
    """The classes, the most frequent first, and what is left out."""
    counts, steps = Counter(labels), len(labels)
    names = [name for name, count in counts.most_common() if FEWEST_STEPS <= count <= steps - FEWEST_STEPS]
    if not names:
        message = f"no class has {FEWEST_STEPS} steps or more, and as many outside it: nothing can be told apart"
        raise InvalidInput.at(Place(("classes",), message))
    left_out = len(counts) - min(len(names), MOST_CLASSES)
    notes = (
        [f"{left_out} of {len(counts)} classes are left out: too few steps, or rarer than others"] if left_out else []
    )
    return names[:MOST_CLASSES], notes


def _auc(classes: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """(class, step), true at the steps of a class, and ranks (step, unit) -> (class, unit)."""
    inside = classes.sum(axis=1, keepdims=True)
    outside = classes.shape[1] - inside
    above: np.ndarray = classes.astype(np.float64) @ ranks - inside * (inside + 1) / 2
    auc: np.ndarray = above / (inside * outside)
    return auc


def _ranks(values: np.ndarray) -> np.ndarray:
    """(step, unit) -> the rank of each step, from 1; equal values share the mean of theirs."""
    ranks = np.empty_like(values)
    for unit, column in enumerate(values.T):
        _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        last = counts.cumsum()
        ranks[:, unit] = (last - (counts - 1) / 2)[inverse]
    return ranks


def _exchanged(lengths: Sequence[int], generator: np.random.Generator) -> np.ndarray:
    """Places (step,): whole sequences in another order, and all of it rolled."""
    edges = np.cumsum([0, *lengths])
    order = generator.permutation(len(lengths))
    places = np.concatenate([np.arange(edges[row], edges[row + 1]) for row in order])
    return np.roll(places, generator.integers(len(places)))


def _corrected(p: np.ndarray) -> np.ndarray:
    """p-values of any shape -> the least false discovery rates at which each is found."""
    flat = p.ravel()
    order = np.argsort(flat)
    scaled = flat[order] * len(flat) / np.arange(1, len(flat) + 1)
    least = np.minimum.accumulate(scaled[::-1])[::-1]
    q = np.empty_like(flat)
    q[order] = np.minimum(least, 1)
    return q.reshape(p.shape)


ANALYSIS = Analysis(
    name="selectivity",
    title="Units that tell classes apart",
    question="Which unit is high inside a quotation, at a verb, or at any other class of steps?",
    arrays=dict.fromkeys(("auc", "q"), ("class", *SCOPE_AXES)),
    cells=EVERY_CELL,
    parameters=SelectivityParameters,
    needs=("classes",),
    run=selectivity,
)
