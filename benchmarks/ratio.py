"""Ratios of what was measured in the same round, and the columns that show them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def each(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round."""
    return [first / second for first, second in zip(over, under, strict=True)]


def shown(ratios: Sequence[float]) -> tuple[str, str]:
    """The median, and the least and the most."""
    return f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"
