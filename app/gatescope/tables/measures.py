"""Measures of error between what was predicted and what was measured.

`predicted` and `observed` are (pair,) float64; NaN where one is missing, and such pairs are left out.
"""

from __future__ import annotations

import numpy as np

_PERCENT = 100.0


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


def _kge(given: np.ndarray, actual: np.ndarray) -> float | None:
    spread, level = float(actual.std()), float(actual.mean())
    if not spread or not level or not given.std():
        return None
    r = float(np.corrcoef(given, actual)[0, 1])
    return 1 - float(np.sqrt((r - 1) ** 2 + (given.std() / spread - 1) ** 2 + (given.mean() / level - 1) ** 2))
