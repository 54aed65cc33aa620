"""The plain loop: the equations step by step. Slow, and the last resort where nothing else gives the gates."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from app.lstm.chunk import Chunk, parts
from app.lstm.equations import step
from app.lstm.state import State
from app.lstm.weights import Weights


def chunks(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor) -> Iterator[Chunk]:
    """Run the equations over (time, batch, feature); a `Method`."""
    h, c = h0[0], c0[0]
    for start, part in parts(inputs, c0.shape[-1]):
        steps = []
        for x in part:
            steps.append(step(x, h, c, weights))
            h, c = steps[-1].hidden_state, steps[-1].cell_state
        *gates, cell_state, hidden_state = (torch.stack(values) for values in zip(*steps, strict=True))
        yield Chunk(start, torch.cat(gates, dim=-1), cell_state, hidden_state, State(h[None], c[None]))
