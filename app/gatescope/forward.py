"""`forward`: an `nn.LSTM` over a ragged batch, without looking inside.

That is `nn.LSTM` itself, but for short calls where oneDNN runs it: one step of a few rows goes through
`torch.lstm_cell`, and a few steps through oneDNN's kernel as `nn.LSTM` calls it, layer by layer, with weights that are
in the kernel's own order already. `nn.LSTM` has them reordered at every call.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.backends import onednn_kernel
from gatescope.backends.parameters import Parameters
from gatescope.selection import Selection
from gatescope.state import State
from gatescope.tracing import trace

_NOTHING = Selection(signals=())

# where the lines lie was measured: one step and many, of 64 to 256 units (docs/performance.md)
MOST_PACKED = 512  # rows · steps: with more, reordering the weights takes less than a twentieth of a call
MOST_IN_CELL = 512  # rows · units of one step: with more, oneDNN's products gain more than its calls cost


def forward(
    module: nn.LSTM,
    inputs: Tensor,
    lengths: Tensor,
    initial_state: State,
    *,
    ragged: bool,
    with_state: bool = True,
    with_padding: bool = True,
) -> tuple[Tensor, State | None]:
    """The output and final state of a padded batch, each row's as if it had run alone.

    Args:
        module: a batch-first `nn.LSTM` in evaluation mode.
        inputs: (batch, time, feature), padded on the right.
        lengths: (batch,).
        initial_state: each (layers · directions, batch, unit).
        ragged: whether a row is shorter than the padded time.
        with_state: whether the final state is wanted, which in a ragged batch costs more than the output.
        with_padding: whether the padding of the output is read; it may hold anything where it is not.

    Returns:
        Output (batch, time, directions · unit), NaN in the padding that is read, and each row's state at its own last
        step; None where that is not wanted and would have cost something.
    """
    if ragged and (with_state or module.bidirectional):
        # the cell states inside are wanted where rows end, or a direction begins there: only a trace goes there
        traced = trace(module, inputs, lengths, initial_state, _NOTHING)
        return traced.output, traced.final_state
    with torch.no_grad():
        output, final = _run(module, inputs, initial_state)
    if ragged and with_padding:
        output.masked_fill_(~padding.is_valid(lengths, inputs.shape[1])[..., None], torch.nan)
    return output, None if ragged else final


def _run(module: nn.LSTM, inputs: Tensor, initial_state: State) -> tuple[Tensor, State]:
    rows, time, _ = inputs.shape
    parameters = Parameters.of(module)
    if rows * time > MOST_PACKED or not _is_onednns(parameters, inputs, initial_state):
        output, final = module(inputs, tuple(initial_state))
        return output, State(*final)
    if time == 1 and rows * parameters.spec.hidden_size <= MOST_IN_CELL:
        return _step(parameters, inputs, initial_state)
    return _layers(parameters, inputs, initial_state)


def _is_onednns(parameters: Parameters, inputs: Tensor, state: State) -> bool:
    """Whether oneDNN may be given these tensors: its kernel believes every shape."""
    spec, (rows, time, features) = parameters.spec, inputs.shape
    if not parameters.are_onednns or features != spec.input_size or not rows or not time:
        return False
    shape, (h0, c0) = (len(parameters.weights), rows, spec.hidden_size), state
    return h0.shape == c0.shape == shape and all(x.dtype is torch.float32 and x.is_cpu for x in (inputs, h0, c0))


def _step(parameters: Parameters, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    """One time step through `torch.lstm_cell`."""
    h0, c0 = state.hidden_state.unbind(), state.cell_state.unbind()  # (batch, unit) of each layer and direction
    layer_input, directions = inputs[:, 0], parameters.spec.num_directions  # (batch, feature)
    hidden: list[Tensor] = []
    cell: list[Tensor] = []
    for entry, weights in enumerate(parameters.weights):
        h, c = torch.lstm_cell(layer_input, (h0[entry], c0[entry]), *weights[:4])
        hidden.append(h)
        cell.append(c)
        if len(hidden) % directions == 0:
            layer_input = _side_by_side(hidden[-directions:])
    return layer_input[:, None], State(torch.stack(hidden), torch.stack(cell))


def _layers(parameters: Parameters, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    """A few steps through oneDNN's inference kernel, its weights in its own order."""
    layer_input, directions = inputs.transpose(0, 1).contiguous(), parameters.spec.num_directions
    runs: list[onednn_kernel.Run] = []
    for weights, begun in zip(parameters.packed(inputs.shape[0]), state.entries(), strict=True):
        runs.append(onednn_kernel.run(weights, layer_input, *begun, reverse=len(runs) % directions == 1))
        if len(runs) % directions == 0:
            layer_input = _side_by_side([run.output for run in runs[-directions:]])
    return layer_input.transpose(0, 1), State.joined([run.final for run in runs])


def _side_by_side(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.cat(values, dim=-1)
