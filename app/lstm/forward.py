"""`forward`: an `nn.LSTM` over a ragged batch, without looking inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.lstm.selection import Selection
from app.lstm.state import State
from app.lstm.trace import trace

_NOTHING = Selection(signals=())


def forward(module: nn.LSTM, inputs: Tensor, lengths: Tensor, initial_state: State) -> tuple[Tensor, State]:
    """The output and final state of a padded batch, each row's as if it had run alone.

    Args:
        module: a batch-first `nn.LSTM` in evaluation mode.
        inputs: (batch, time, feature), padded on the right.
        lengths: (batch,).
        initial_state: each (layers · directions, batch, unit).

    Returns:
        Output (batch, time, directions · unit), NaN in the padding, and each row's state at its own last step.
    """
    if bool((lengths < inputs.shape[1]).any()):
        # a ragged batch needs the cell states inside, where only the trace's scan reaches each row's own last step
        ragged = trace(module, inputs, lengths, initial_state, _NOTHING)
        return ragged.output, ragged.final_state
    with torch.no_grad():
        output, final = module(inputs, tuple(initial_state))
    return output, State(*final)
