"""Ridge regression that is tested on blocks of time which it has not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e3, 1e4)
"""Of which the best on inner folds is taken; features are standardised, and the penalty is per step."""

INNER_FOLDS = 3
_TINY = 1e-9


class Fit(NamedTuple):
    """What was found."""

    r2: float  # of the predictions of all blocks, each made without it
    weights: np.ndarray  # (feature,) of standardised features, in units of the target's deviation; of all steps


class Block(NamedTuple):
    """One fold."""

    train: np.ndarray  # places of steps
    test: np.ndarray


def blocks(steps: np.ndarray, count: int, gap: int) -> Iterator[Block]:
    """Neighbouring blocks of steps (in ascending order), each with the steps that lie further than a gap from it."""
    for test in np.array_split(steps, count):
        far = (steps < test[0] - gap) | (steps > test[-1] + gap)
        yield Block(steps[far], test)


def fit(features: np.ndarray, target: np.ndarray, folds: int, gap: int) -> Fit:
    """Cross-validated in blocks of time.

    Args:
        features: (step, feature).
        target: (step,), NaN where it is not known.
        folds: how many blocks.
        gap: so many steps on both sides of a block are not trained on.
    """
    known = np.flatnonzero(~np.isnan(target))
    predicted = np.full(len(target), np.nan)
    for block in blocks(known, folds, gap):
        penalty = _best_penalty(features, target, block.train, gap)
        predicted[block.test] = _predict(features, target, block.train, block.test, [penalty])[0]
    weights = _weights(features, target, known, _best_penalty(features, target, known, gap))
    return Fit(_r2(target[known], predicted[known]), weights)


def _best_penalty(features: np.ndarray, target: np.ndarray, train: np.ndarray, gap: int) -> float:
    """The penalty whose predictions of inner blocks are best."""
    errors = np.zeros(len(PENALTIES))
    for block in blocks(train, INNER_FOLDS, gap):
        if len(block.train) > 1:
            predicted = _predict(features, target, block.train, block.test, PENALTIES)
            errors += ((predicted - target[block.test]) ** 2).sum(axis=1)
    return PENALTIES[int(errors.argmin())]


def _predict(
    features: np.ndarray, target: np.ndarray, train: np.ndarray, test: np.ndarray, penalties: Sequence[float]
) -> np.ndarray:
    """(penalty, step) the predictions of the test steps."""
    given = _Standardised.of(features[train], target[train])
    scaled = (features[test] - given.mean) / given.deviation
    return np.stack([scaled @ weights + given.target_mean for weights in given.weights(penalties)])


def _weights(features: np.ndarray, target: np.ndarray, steps: np.ndarray, penalty: float) -> np.ndarray:
    given = _Standardised.of(features[steps], target[steps])
    weights: np.ndarray = given.weights([penalty])[0] / max(float(target[steps].std()), _TINY)
    return weights


class _Standardised(NamedTuple):
    """Features and a target, ready to be regressed."""

    mean: np.ndarray  # (feature,)
    deviation: np.ndarray
    target_mean: float
    values: np.ndarray  # (eigenvalue,) of the covariance of the features
    vectors: np.ndarray  # (feature, eigenvalue)
    projected: np.ndarray  # (eigenvalue,) the covariance with the target

    @classmethod
    def of(cls, features: np.ndarray, target: np.ndarray) -> _Standardised:
        """Of these steps."""
        mean, deviation = features.mean(axis=0), features.std(axis=0)
        deviation = np.where(deviation > _TINY, deviation, np.inf)  # what stands still says nothing
        scaled, target_mean = (features - mean) / deviation, float(target.mean())
        values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        covariance = scaled.T @ (target - target_mean) / len(scaled)
        return cls(mean, deviation, target_mean, values, vectors, vectors.T @ covariance)

    def weights(self, penalties: Sequence[float]) -> list[np.ndarray]:
        """(feature,) for each penalty."""
        return [self.vectors @ (self.projected / (np.maximum(self.values, 0) + each)) for each in penalties]


def _r2(target: np.ndarray, predicted: np.ndarray) -> float:
    """1 − Σ(y − p)² / Σ(y − ȳ)²."""
    return float(1 - ((target - predicted) ** 2).sum() / ((target - target.mean()) ** 2).sum())
