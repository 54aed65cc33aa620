"""`forward`: an `nn.LSTM` over a ragged batch, without looking inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.lstm import batch
from app.lstm.selection import Selection
from app.lstm.state import State
from app.lstm.trace import trace

_NOTHING = Selection(signals=())


def forward(
    module: nn.LSTM, inputs: Tensor, lengths: Tensor, initial_state: State, *, ragged: bool, with_state: bool = True
) -> tuple[Tensor, State | None]:
    """The output and final state of a padded batch, each row's as if it had run alone.

    Args:
        module: a batch-first `nn.LSTM` in evaluation mode.
        inputs: (batch, time, feature), padded on the right.
        lengths: (batch,).
        initial_state: each (layers · directions, batch, unit).
        ragged: whether a row is shorter than the padded time.
        with_state: whether the final state is wanted, which in a ragged batch costs more than the output.

    Returns:
        Output (batch, time, directions · unit), NaN in the padding, and each row's state at its own last step; None
        where that is not wanted and would have cost something.
    """
    if ragged and (with_state or module.bidirectional):
        # the cell states inside are wanted where rows end, or a direction begins there: only a trace goes there
        traced = trace(module, inputs, lengths, initial_state, _NOTHING)
        return traced.output, traced.final_state
    with torch.no_grad():
        output, final = module(inputs, tuple(initial_state))
    if ragged:
        return output.masked_fill_(~batch.is_valid(lengths, inputs.shape[1])[..., None], torch.nan), None
    return output, State(*final)
