"""`Finding`: one thing that may stand out inside a network, with its figures; `Place`, the unit that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Kind = Literal["counts", "latches", "remembers", "slow", "saturated", "follows", "tells_apart", "swings", "needed"]
"""What a unit may do; the report tells them in this order."""

LEVEL = 0.01
"""Of a whole report: how often it may name anything where there is nothing."""


class Place(NamedTuple):
    """A unit of a layer and direction."""

    layer: int
    direction: str
    unit: int


@dataclass(frozen=True)
class Finding:
    """The figures of one unit, and whether they stand out."""

    kind: Kind
    place: Place
    figures: Mapping[str, Any]
    p: float | None = None
    """How often a whole report would find as much where there is nothing; None of what is defined, not estimated."""

    @property
    def stands_out(self) -> bool:
        """Whether the report says that there is something."""
        return self.p is None or self.p <= LEVEL


@dataclass(frozen=True)
class Family:
    """The findings of one kind of question, the strongest first; at most one of them if none stands out."""

    kind: Kind
    findings: tuple[Finding, ...] = ()
    note: str = ""
    """Why nothing could be told, or what was left out."""
    source: str = ""
    """Where the series or classes come from, where the network reads them."""
