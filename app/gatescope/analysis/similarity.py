"""Units that do the same: an order in which alike ones stand side by side, and groups.

Alike is what correlates over all steps, whatever the sign. The order is that of the Fiedler vector of the graph whose
edges are |r| (Barnard, Pothen, Simon: A spectral algorithm for envelope reduction, 1995).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gatescope.analysis.analysis import EVERY_CELL, SCOPE_AXES, Analysis, Statistic
from gatescope.analysis.moments import Moments
from gatescope.analysis.result import Findings
from gatescope.analysis.states import state_of
from gatescope.analysis.subject import Chunk, Scope
from gatescope.cells import Cell

ALIKE = 0.8
"""Units whose |r| is above this are of one group, as are those that are alike to the same unit."""


class Similarity(Statistic):
    """The covariance of the states of all units."""

    def __init__(self, scope: Scope, parameters: Any) -> None:
        super().__init__(scope, parameters)
        self._moments = Moments(lambda row: torch.outer(row, row))  # (unit of any layer and direction,)

    @classmethod
    def signals(cls, cell: Cell) -> tuple[str, ...]:
        """The cell state of an LSTM, else the hidden state."""
        return (state_of(cell),)

    def update(self, chunk: Chunk) -> None:
        """Take in the moments of each block."""
        for block in chunk.blocks(self.signals(self.scope.spec.cell)):
            values = block.permute(2, 0, 1, 3).flatten(1)  # (step, unit of any layer and direction)
            near = values.mean(0)
            values.sub_(near)
            self._moments.add(len(values), near, values.sum(0), values.T @ values)

    def finish(self) -> Findings:
        """Each unit's place in the order, and its group; groups are numbered by size, the largest is 0."""
        covariance = (self._moments.products / self._moments.steps).numpy()
        deviation = np.sqrt(np.maximum(covariance.diagonal(), 0))
        scale = np.outer(deviation, deviation)
        alike = np.abs(np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0))
        places = _order(alike)
        shape = *self.scope.shape[:2], -1
        return Findings({"order": places.reshape(shape), "group": _groups(alike).reshape(shape)})


def _order(alike: np.ndarray) -> np.ndarray:
    """(unit, unit) -> (unit,) the place of each unit."""
    if len(alike) < 3:  # noqa: PLR2004 - in any order
        return np.arange(len(alike))
    laplacian = np.diag(alike.sum(axis=1)) - alike
    _, vectors = np.linalg.eigh(laplacian)
    places = np.empty(len(alike), dtype=np.int64)
    places[np.argsort(vectors[:, 1], kind="stable")] = np.arange(len(alike))
    return places


def _groups(alike: np.ndarray) -> np.ndarray:
    """(unit, unit) -> (unit,) the number of the connected group of each unit."""
    group = np.full(len(alike), -1)
    members: list[list[int]] = []
    for unit in range(len(alike)):
        if group[unit] >= 0:
            continue
        found, waiting = [], [unit]
        group[unit] = len(members)
        while waiting:
            each = waiting.pop()
            found.append(each)
            near = np.flatnonzero((alike[each] > ALIKE) & (group < 0))
            group[near] = len(members)
            waiting += near.tolist()
        members.append(found)
    numbers = np.empty(len(members), dtype=np.int64)
    numbers[sorted(range(len(members)), key=lambda index: -len(members[index]))] = np.arange(len(members))
    found_groups: np.ndarray = numbers[group]
    return found_groups


ANALYSIS = Analysis(
    name="similarity",
    title="Units that do the same",
    question="Which units do the same as others?",
    arrays=dict.fromkeys(("order", "group"), SCOPE_AXES),
    cells=EVERY_CELL,
    statistic=Similarity,
)
