"""Two languages that can only be told by counting, each with the count at every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Symbols = npt.NDArray[np.int64]

OPEN, CLOSE = 0, 1
SYMBOLS = 2


@dataclass(frozen=True)
class Batch:
    """Strings, padded on the right."""

    inputs: Tensor  # (string, step, symbol) one-hot, 0 in the padding
    depth: Tensor  # (string, step) how many are open behind this symbol; NaN in the padding
    lengths: list[int]

    @property
    def may_end(self) -> Tensor:
        """(string, step) whether the string may end behind this symbol."""
        return self.depth == 0

    @property
    def valid(self) -> Tensor:
        """(string, step) what is not padding."""
        return ~torch.isnan(self.depth)


def batch(strings: list[Symbols]) -> Batch:
    """Strings of 0 (opens) and 1 (closes) as a network reads them."""
    longest = max(map(len, strings))
    inputs, depth = torch.zeros(len(strings), longest, SYMBOLS), torch.full((len(strings), longest), torch.nan)
    for row, string in enumerate(strings):
        inputs[row, torch.arange(len(string)), torch.as_tensor(string)] = 1
        depth[row, : len(string)] = torch.as_tensor(np.cumsum(1 - 2 * string), dtype=torch.float32)
    return Batch(inputs, depth, [len(string) for string in strings])


def counted(n: int) -> Symbols:
    """aⁿbⁿ."""
    return np.repeat([OPEN, CLOSE], n)


def brackets(generator: np.random.Generator, low: int, high: int) -> Symbols:
    """Balanced brackets whose largest depth is between `low` and `high`, by a random walk between 0 and that depth."""
    top = int(generator.integers(low, high + 1))
    depth, reached, string = 0, 0, []
    while reached < top or depth > 0:
        up = 0.5 if reached == top else 0.7  # climb first
        opens = depth == 0 or (depth < top and generator.random() < up)
        depth += 1 if opens else -1
        reached = max(reached, depth)
        string.append(OPEN if opens else CLOSE)
        if reached == top and len(string) > 4 * top:
            string += [CLOSE] * depth  # enough
            break
    return np.array(string)
