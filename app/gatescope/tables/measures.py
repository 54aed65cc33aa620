"""Measures of error between what was predicted and what was measured, of quantities and of labels.

`predicted` and `observed` are (pair,) float64; NaN where one is missing, and such pairs are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_PERCENT = 100.0
_SAME = 1e-9


def of_pairs(predicted: np.ndarray, observed: np.ndarray, scale: float | None = None) -> dict[str, float | None]:
    """Every measure by name; None where it is not defined.

    - `mae`, `rmse`, `bias`: mean |e|, root of mean e², mean e, with e = predicted − observed.
    - `mape`, `smape`: mean |e/y| and mean 2|e|/(|ŷ|+|y|), in percent; undefined where a denominator is 0.
    - `mase`: mae / `scale` (Hyndman and Koehler 2006).
    - `nse`: 1 − Σe² / Σ(y − ȳ)² (Nash and Sutcliffe 1970).
    - `kge`: 1 − √((r−1)² + (σ_ŷ/σ_y−1)² + (μ_ŷ/μ_y−1)²) (Gupta et al. 2009).

    Args:
        predicted: (pair,).
        observed: (pair,).
        scale: the mean absolute error of the naive forecast over what was known, for `mase`.
    """
    known = np.isfinite(predicted) & np.isfinite(observed)
    given, actual = predicted[known], observed[known]
    if not len(given):
        return dict.fromkeys(("mae", "rmse", "bias", "mape", "smape", "mase", "nse", "kge"))
    error = given - actual
    mae, total = float(np.abs(error).mean()), np.abs(given) + np.abs(actual)
    variation = float(((actual - actual.mean()) ** 2).sum())
    return {
        "mae": mae,
        "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()),
        "mape": None if (actual == 0).any() else float(_PERCENT * np.abs(error / actual).mean()),
        "smape": None if (total == 0).any() else float(_PERCENT * (2 * np.abs(error) / total).mean()),
        "mase": mae / scale if scale else None,
        "nse": 1 - float((error**2).sum()) / variation if variation else None,
        "kge": _kge(given, actual),
    }


def of_labels(
    predicted: np.ndarray, actual: np.ndarray, probabilities: np.ndarray | None = None
) -> dict[str, float | None]:
    """The measures of labels by name; None where there is no pair.

    - `accuracy`: the share that is right; `majority`: the same of always telling the most frequent of `actual`.
    - `macro_f1`: the mean of F1 over the labels that occur (Sokolova and Lapalme 2009).
    - `log_loss`: mean −ln p of the true label; `baseline_log_loss`: the same of the frequencies of `actual`.
    - `count`: of pairs.

    Args:
        predicted: (pair,) the index of a label.
        actual: (pair,) the same.
        probabilities: (pair, label); without them there is no log loss.
    """
    if not len(actual):
        return dict.fromkeys(("accuracy", "majority", "macro_f1", "log_loss", "baseline_log_loss")) | {"count": 0.0}
    shares = np.unique(actual, return_counts=True)[1] / len(actual)
    occurring = np.union1d(predicted, actual)
    rows = range(len(actual))
    return {
        "accuracy": float((predicted == actual).mean()),
        "majority": float(shares.max()),
        "macro_f1": float(np.mean([of_label(predicted, actual, label)["f1"] for label in occurring])),
        "log_loss": None if probabilities is None else float(-_logarithms(probabilities[rows, actual]).mean()),
        "baseline_log_loss": None if probabilities is None else float(-(shares * np.log(shares)).sum()),
        "count": float(len(actual)),
    }


def of_label(predicted: np.ndarray, actual: np.ndarray, label: int) -> dict[str, float]:
    """`recall`, `precision` and `f1` of one label, which occurs, and its `share` of `actual`; 0 where one is 0 / 0."""
    told, true = predicted == label, actual == label
    right = float((told & true).sum())
    return {
        "recall": right / max(1.0, float(true.sum())),
        "precision": right / max(1.0, float(told.sum())),
        "f1": 2 * right / float(told.sum() + true.sum()),
        "share": float(true.mean()),
    }


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    """As float32 has them: what is too small for it is its smallest number, not 0."""
    made: np.ndarray = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).smallest_subnormal))
    return made


def of_quantiles(predicted: np.ndarray, observed: np.ndarray, quantiles: Sequence[float]) -> dict[str, float | None]:
    """The measures of quantiles by name; None where there is no pair.

    - `pinball_0.1`, …: mean max(q·(y − ŷ), (q − 1)·(y − ŷ)) (Koenker and Bassett 1978); `pinball` is the mean of all.
    - `coverage_0.8`, …: the share of y from the quantile 0.1 to the quantile 0.9, both included, and so of each pair of
      quantiles with as much below the one as above the other; of good quantiles about 0.8.

    Args:
        predicted: (quantile, pair). A point forecast is (1, pair): the same for each quantile, and without coverage.
        observed: (pair,).
        quantiles: in ascending order.
    """
    given = np.broadcast_to(predicted, (len(quantiles), len(observed)))
    known = np.isfinite(given).all(axis=0) & np.isfinite(observed)
    names = ["pinball", *(f"pinball_{quantile:g}" for quantile in quantiles)]
    intervals = _central(quantiles)
    if not known.any():
        return dict.fromkeys((*names, *intervals))
    given, actual = given[:, known], observed[known]
    level = np.array(quantiles)[:, None]
    missing = actual - given
    losses = np.maximum(level * missing, (level - 1) * missing).mean(axis=1)
    is_point = len(predicted) == 1 < len(quantiles)
    return dict(zip(names, (float(losses.mean()), *losses.tolist()), strict=True)) | {
        name: None if is_point else float(((given[low] <= actual) & (actual <= given[high])).mean())
        for name, (low, high) in intervals.items()
    }


def _central(quantiles: Sequence[float]) -> dict[str, tuple[int, int]]:
    """The name of each central interval, the widest first, and the places of its bounds."""
    places = range(len(quantiles))
    return {
        f"coverage_{quantiles[high] - quantiles[low]:.10g}": (low, high)
        for low in places
        for high in places[low + 1 :]
        if abs(quantiles[low] + quantiles[high] - 1) < _SAME
    }


def _kge(given: np.ndarray, actual: np.ndarray) -> float | None:
    spread, level = float(actual.std()), float(actual.mean())
    if not spread or not level or not given.std():
        return None
    r = float(np.corrcoef(given, actual)[0, 1])
    return 1 - float(np.sqrt((r - 1) ** 2 + (given.std() / spread - 1) ** 2 + (given.mean() / level - 1) ** 2))
