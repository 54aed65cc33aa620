"""`Analysis`: a question about a recurrent network, and what answers it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gatescope.analysis.result import Findings
from gatescope.analysis.subject import Chunk, Scope, Subject
from gatescope.cells import CELLS, Cell

Need = Literal["head", "gradient", "series", "classes"]
"""What an analysis needs beside a trace: the head that predicts, its gradient, or what only the user knows."""

EVERY_CELL = tuple(dict.fromkeys(cell.name for cell in CELLS))
"""For analyses that need nothing of a cell."""

SCOPE_AXES = ("layer", "direction", "unit")
"""Those whose coordinates follow from what was selected."""


class Parameters(BaseModel):
    """What may be said beside the subject; the docstring under a field describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def check(self, subject: Subject) -> None:
        """Refuse what does not go with these sequences, before anything is computed; raises `InvalidInput`."""


class OneSequence(Parameters):
    """Of analyses that look at one sequence."""

    sequence: int | None = Field(default=None, ge=0)
    """Which sequence is looked at; it may be left out where there is one."""

    def check(self, subject: Subject) -> None:
        """Refuse a sequence that is not there."""
        subject.only(self.sequence)


class OneStep(OneSequence):
    """Of analyses that look back from one time step of one sequence."""

    time_step: int = -1
    """The time step that is looked back from; a negative one counts from the end."""

    def check(self, subject: Subject) -> None:
        """Refuse a sequence or time step that is not there."""
        subject.only(self.sequence).step(self.time_step)


class OnePlace(OneStep):
    """Of analyses that look at one layer and direction."""

    layer: int = Field(default=0, ge=0)
    """Which layer is looked at, counted from 0."""

    direction: Literal["forward", "reverse"] = "forward"
    """Which of its directions."""

    def check(self, subject: Subject) -> None:
        """Refuse a sequence, time step, layer or direction that is not there."""
        super().check(subject)
        subject.at(self.layer, self.direction)


class Statistic(ABC):
    """A statistic over all steps of all sequences, computed chunk by chunk in bounded memory.

    Args:
        scope: what of which module is looked at.
        parameters: of the analysis.
    """

    def __init__(self, scope: Scope, parameters: Any) -> None:
        self.scope, self.parameters = scope, parameters

    @classmethod
    @abstractmethod
    def signals(cls, cell: Cell) -> tuple[str, ...]:
        """The signals that it reads, in the order of its coordinate."""

    @abstractmethod
    def update(self, chunk: Chunk) -> None:
        """Take in some steps of some sequences; those of one sequence come in the order of time."""

    @abstractmethod
    def finish(self) -> Findings:
        """What was found in all of them."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """One file of `gatescope/analysis/`; it is equal to itself alone.

    Either `run` computes it of a whole subject, or `statistic` chunk by chunk.
    """

    name: str
    title: str
    question: str  # what it answers, in the words of somebody who asks
    arrays: Mapping[str, tuple[str, ...]]  # the axes of each array of its result
    cells: tuple[str, ...]  # those whose mathematics it has
    parameters: type[Parameters] = Parameters
    needs: tuple[Need, ...] = ()
    run: Callable[[Subject, Any], Findings] | None = None
    statistic: type[Statistic] | None = None

    def described(self) -> dict[str, Any]:
        """As `GET /v1/analyses` lists it."""
        return {
            "name": self.name,
            "title": self.title,
            "question": self.question,
            "parameters": self.parameters.model_json_schema(),
            "arrays": {name: list(axes) for name, axes in self.arrays.items()},
            "cells": list(self.cells),
            "needs": list(self.needs),
        }

    def find(self, subject: Subject, parameters: Parameters) -> Findings:
        """What it finds in a whole subject; raises `InvalidInput` where the parameters do not go with it."""
        parameters.check(subject)
        if self.statistic is None:
            if self.run is None:
                raise TypeError(f"'{self.name}' has neither a function nor a statistic")
            return self.run(subject, parameters)
        statistic = self.statistic(subject.scope, parameters)
        for chunk in subject.chunks(self.statistic.signals(subject.spec.cell)):
            statistic.update(chunk)
        return statistic.finish()


def coordinates_of(axes: Sequence[str], scope: Scope, found: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The coordinates of these axes: what was selected, and what was found."""
    selected = dict(zip(SCOPE_AXES, (scope.layers, scope.directions, scope.units), strict=True))
    known = {**selected, **found}
    return {axis: list(known[axis]) for axis in axes if axis in known}
