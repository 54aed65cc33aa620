"""The signals of a model's cell as ModelInfo describes them, and the colour scale that a range asks for.

A view takes names, symbols, ranges and descriptions from here. It has no list of signals of its own, because another
cell has other signals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_LEAST_SPAN = 1e-6
"""From the first colour to the last of a signal without an upper bound."""


@dataclass(frozen=True)
class SignalInfo:
    """One signal, such as the forget gate. Without `low` and `high` its values have no bounds."""

    name: str
    symbol: str = ""
    low: float | None = None
    high: float | None = None
    description: str = ""

    @property
    def range(self) -> str:
        """Its bounds in words: "0 to 1", "-1 to 1", "at least 0" or "unbounded"."""
        if self.low is None:
            return "unbounded"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"

    @property
    def is_sequential(self) -> bool:
        """Whether its colours run from nothing to all, as a gate's do; else they diverge around 0."""
        return self.low is not None and self.low >= 0

    def attributes(self) -> dict[str, str]:
        """What a file says of it."""
        return {"range": self.range, "symbol": self.symbol, "description": self.description}

    def limits(self, values: np.ndarray) -> tuple[float, float]:
        """The values with the first and the last colour.

        A range gives them; a diverging one is made symmetric, so that 0 is in the middle. Without a range, or an upper
        bound, the largest absolute value does.

        Args:
            values: all that are drawn on one scale; NaN is ignored.
        """
        if self.low is not None and self.high is not None:
            return (self.low, self.high) if self.is_sequential else _around_zero(max(-self.low, self.high))
        known = np.abs(values[np.isfinite(values)])
        most = float(known.max()) if known.size else 0.0
        if self.low is None or not self.is_sequential:
            return _around_zero(most)
        return self.low, max(most, self.low + _LEAST_SPAN)


def signals_of(info: Mapping[str, Any], module: str | None = None) -> dict[str, SignalInfo]:
    """The signals of a model, by name, in the cell's order; none for a model that is not loaded.

    Args:
        info: ModelInfo.
        module: which of the model's recurrent modules, as a trace reply names it; by default the first.
    """
    modules = {described["name"]: described for described in info.get("lstms") or ()}
    described = modules.get(module, {}).get("signals") or info.get("signals") or ()
    return {
        signal["name"]: SignalInfo(
            signal["name"], signal["symbol"], signal["low"], signal["high"], signal["description"]
        )
        for signal in described
    }


def _around_zero(most: float) -> tuple[float, float]:
    return (-most, most) if most > 0 else (-1.0, 1.0)
