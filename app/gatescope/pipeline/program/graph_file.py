"""`GraphFile`: a graph's file of any format, read and checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.program import Program
from gatescope.spec import Spec


@dataclass(frozen=True)
class Described:
    """What the inputs and outputs of a graph are, as far as it shows."""

    config: Mapping[str, Any]
    """[graph] of a manifest, without its layout."""
    width: int
    """Features of a time step, or how many tokens there are; 0 where that is not known."""
    reads_tokens: bool
    function: str | None
    """`softmax` or `sigmoid`, where the prediction comes from one; else None."""
    specs: Mapping[str, Spec]
    """The recurrent modules that can be looked into, by name."""
    parameters: int
    """How many numbers it holds."""
    left_out: tuple[str, ...] = ()
    """Outputs that are not served."""
    notes: tuple[str, ...] = ()
    """What else is to be known, a sentence each."""


class GraphFile(ABC):
    """A graph as it lies in a file."""

    content: bytes
    """The whole of it: what lay in files beside it is inside."""

    @abstractmethod
    def described(self) -> Described:
        """What its inputs and outputs are.

        Raises:
            CheckpointError: an input is none that a model of sequences has.
        """

    @abstractmethod
    def program(self, config: GraphConfig) -> Program:
        """The program that runs it.

        Raises:
            CheckpointError: it cannot be run.
            ManifestError: it has no such inputs or outputs.
        """
