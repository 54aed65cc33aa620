"""`Stack`: the LSTM that is served, out of one in the checkpoint or several that feed each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from gatescope.checkpoints.structure.kinds import FoundLSTM, Part
from gatescope.spec import Spec


@dataclass(frozen=True)
class Stack:
    """LSTMs from the bottom up, of which `spec` is the one `nn.LSTM` that computes the same."""

    lstms: tuple[FoundLSTM, ...]
    spec: Spec

    @property
    def names(self) -> dict[str, str]:
        """The one `nn.LSTM`'s own name of every parameter -> its name in the checkpoint."""
        names, below = {}, 0
        for lstm in self.lstms:
            for name, stored in lstm.names.items():
                names[_lifted(name, below)] = stored
            below += lstm.spec.num_layers
        return names

    @classmethod
    def of(cls, lstms: Sequence[FoundLSTM]) -> Stack:
        """Join LSTMs, each of which reads the output of the one before.

        Raises:
            ValueError: they do not fit each other; both are named.
        """
        for below, above in pairwise(lstms):
            gives, takes = below.spec.output_size, above.spec.input_size
            if gives != takes:
                raise ValueError(f"{below} gives {gives} values, but {above} takes {takes}")
            if _shape(above) != _shape(below):
                raise ValueError(
                    f"{below} and {above} differ in hidden_size, bias, bidirectional or proj_size, and one nn.LSTM has "
                    "the same in all its layers"
                )
        num_layers = sum(lstm.spec.num_layers for lstm in lstms)
        return cls(tuple(lstms), replace(lstms[0].spec, num_layers=num_layers))


def are_numbered(parts: Sequence[Part]) -> bool:
    """Whether the parts' paths are alike but for their numbers: `lstm1` and `lstm2`, `cells.0` and `cells.1`."""
    return len({series(part.path) for part in parts}) == 1


def series(path: str) -> str:
    """What a path has in common with others that are numbered like it."""
    return re.sub(r"\d+", "", path)


def number(part: Part) -> list[int]:
    """A key that sorts parts by the numbers in their paths."""
    return [int(digits) for digits in re.findall(r"\d{1,18}", part.path)]


def _lifted(name: str, layers: int) -> str:
    """A parameter's name, so many layers up."""
    return re.sub(r"_l(\d+)", lambda found: f"_l{int(found[1]) + layers}", name)


def _shape(lstm: FoundLSTM) -> Spec:
    return replace(lstm.spec, input_size=0, num_layers=1)
