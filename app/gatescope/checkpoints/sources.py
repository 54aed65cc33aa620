"""`find`: the file of weights that an import is given, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gatescope.checkpoints.formats.checkpoint import Checkpoint
from gatescope.checkpoints.given_sample import GivenSample
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.options import Options
from gatescope.checkpoints.understand import Understood, understand


@dataclass(frozen=True)
class Source:
    """Where the weights are, and what is said of them elsewhere."""

    weights: Path
    hints: Mapping[str, Any] = field(default_factory=dict)
    """Options that hold unless they are stated."""
    notes: tuple[str, ...] = ()

    def options(self, stated: Options) -> Options:
        """What is stated, and where nothing is, what was found."""
        default = Options()
        open_hints = {
            name: value for name, value in self.hints.items() if getattr(stated, name) == getattr(default, name)
        }
        return replace(stated, **open_hints)

    def understood(
        self, contents: Contents, read: Checkpoint, options: Options, sample: GivenSample | None
    ) -> Understood:
        """The manifest that serves the weights."""
        return understand(contents, read, options, sample)


def find(path: Path) -> Source:
    """The source at a path.

    Raises:
        InvalidInput: a folder holds no weights, or several.
    """
    return Source(path)
