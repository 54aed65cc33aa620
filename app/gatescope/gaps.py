"""`filled`: missing values of features, filled as the rule of each feature says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from gatescope.errors import Place

Rule = Literal["refuse", "hold", "interpolate", "nan"] | float
"""What a missing value of a feature means, as `filled` says; a number stands for itself."""

SAID = {
    "hold": "each is the value before it",
    "interpolate": "each lies on the line between the values before and behind it",
}
"""What was done, for notes."""


FROM_BEFORE = ("hold", "interpolate")
"""The rules that may need the value at the time step before."""


class GapRefused(Exception):
    """A missing value that is not filled; its place is (time step, feature)."""

    def __init__(self, step: int, feature: int, message: str) -> None:
        super().__init__(message)
        self.place = Place((step, feature), message)


def filled(
    values: np.ndarray,
    rules: Sequence[Rule],
    names: Sequence[str],
    before: np.ndarray | None = None,
    *,
    goes_on: bool = False,
) -> np.ndarray:
    """A sequence in which missing values are filled.

    - `refuse`: there must be none.
    - `hold`: the value before it.
    - `interpolate`: on the straight line between the values before and behind it, by time steps.
    - `nan`: NaN is what the model reads.
    - a number: that number.

    Args:
        values: (time, feature), NaN where a value is missing; it is left as it is.
        rules: of each feature.
        names: of each feature, for messages.
        before: (feature,) the values at the time step before the first, where there is one; NaN of what is not known.
        goes_on: whether the values before the first are known elsewhere: a gap that needs one of them is left.

    Raises:
        GapRefused: a gap whose rule is to refuse it, or one without the values that its rule needs.
    """
    is_missing = np.isnan(values)
    if not is_missing.any():
        return values
    made = values.copy()
    for feature in np.flatnonzero(is_missing.any(axis=0)).tolist():
        column, gaps = made[:, feature], is_missing[:, feature]
        start = np.nan if before is None else float(before[feature])
        made[:, feature] = _filled(column, gaps, rules[feature], start)
        left = np.isnan(made[:, feature])
        if goes_on:
            left[: _from_before(gaps, rules[feature])] = False
        if left.any() and rules[feature] != "nan":
            raise GapRefused(int(left.argmax()), feature, _refusal(names[feature], rules[feature]))
    return made


def _filled(column: np.ndarray, gaps: np.ndarray, rule: Rule, start: float) -> np.ndarray:
    """One feature, with NaN where a value is still missing."""
    if rule in {"refuse", "nan"}:
        return column
    if rule == "hold":
        last = np.maximum.accumulate(np.where(gaps, -1, np.arange(len(column))))
        return np.where(last < 0, start, column[last])
    if rule == "interpolate":
        known = np.flatnonzero(~gaps)
        if not len(known):
            return column
        steps = np.concatenate(([-1], known)) if np.isfinite(start) else known
        ends = np.concatenate(([start], column[known])) if np.isfinite(start) else column[known]
        return np.interp(np.arange(len(column)), steps, ends, left=np.nan, right=np.nan)
    return np.where(gaps, float(rule), column)


def _from_before(gaps: np.ndarray, rule: Rule) -> int:
    """How many steps at the beginning a value before the first would fill."""
    if rule not in FROM_BEFORE or (gaps.all() and rule == "interpolate"):
        return 0
    return len(gaps) if gaps.all() else int(np.argmin(gaps))


def _refusal(name: str, rule: Rule) -> str:
    if rule == "hold":
        return f"'{name}' is missing, and there is no value before it that could be held"
    if rule == "interpolate":
        return f"'{name}' is missing, and there are no values on both sides of it to interpolate between"
    return f"'{name}' is missing: the model's manifest does not say what a gap of it means (`missing`)"
