"""`forward`: the output and final state of a recurrent module over a ragged batch, without its gates.

The module itself computes them, with two exceptions. A variant is run by a trace of nothing. Short calls of an
`nn.LSTM` that oneDNN runs are faster otherwise: one step of a few rows goes through `torch.lstm_cell`, and a few steps
through oneDNN's kernel as `nn.LSTM` calls it, layer by layer, with weights that are in the kernel's own order already.
`nn.LSTM` has them reordered at every call.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.backends import onednn_kernel
from gatescope.backends.parameters import Parameters
from gatescope.cells import VariantModule
from gatescope.selection import Selection
from gatescope.state import State
from gatescope.tracing import trace

_NOTHING = Selection(signals=())

# both limits were measured with one step and many, of 64 to 256 units (docs/performance.md)
MAX_REORDERED_STEPS = 512  # rows · steps: with more, reordering the weights takes less than a twentieth of a call
MAX_CELL_UNITS = 512  # rows · units of one step: with more, oneDNN's products gain more than its calls cost


def forward(
    module: nn.RNNBase,
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
        module: a batch-first recurrent module in evaluation mode.
        inputs: (batch, time, feature), padded on the right.
        lengths: (batch,).
        initial_state: each (layers · directions, batch, size).
        ragged: whether a row is shorter than the padded time.
        with_state: whether the final state is needed, which in a ragged batch costs more than the output.
        with_padding: whether the padding of the output is read; else it may hold anything.

    Returns:
        Output (batch, time, directions · unit), NaN in the padding that is read, and each row's state at its own last
        step; None where it is not needed and would have cost something.
    """
    if isinstance(module, VariantModule) or (ragged and (with_state or module.bidirectional)):
        # rows end inside the batch, and a reverse direction begins there: only a trace has the states there;
        # and no kernel is faster than a trace where the functions are not PyTorch's
        traced = trace(module, inputs, lengths, initial_state, _NOTHING)
        return traced.output, traced.final_state
    with torch.no_grad():
        output, final = _run(module, inputs, initial_state)
    if ragged and with_padding:
        output.masked_fill_(~padding.is_valid(lengths, inputs.shape[1])[..., None], torch.nan)
    return output, None if ragged else final


def differentiable(module: nn.RNNBase, inputs: Tensor, initial_state: State) -> Tensor:
    """The output of sequences of one length, which can be differentiated with respect to the inputs and the state.

    The backward pass of cuDNN's kernel works in training mode alone, so it is not used.

    Args:
        module: a recurrent module in evaluation mode.
        inputs: (batch, time, feature), whatever axes the module itself takes.
        initial_state: each (layers · directions, batch, size).

    Returns:
        (batch, time, directions · unit).
    """
    given = inputs if module.batch_first else inputs.transpose(0, 1)
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        output: Tensor = module(given, initial_state.hx)[0]
    return output if module.batch_first else output.transpose(0, 1)


def _run(module: nn.RNNBase, inputs: Tensor, initial_state: State) -> tuple[Tensor, State]:
    rows, time, _ = inputs.shape
    parameters = Parameters.of(module)
    if rows * time > MAX_REORDERED_STEPS or not _can_run_onednn(parameters, inputs, initial_state):
        output, final = module(inputs, initial_state.hx)
        return output, State.from_hx(final)
    if time == 1 and rows * parameters.spec.hidden_size <= MAX_CELL_UNITS:
        return _step(parameters, inputs, initial_state)
    return _layers(parameters, inputs, initial_state)


def _can_run_onednn(parameters: Parameters, inputs: Tensor, state: State) -> bool:
    """Whether oneDNN can run these tensors; its kernel checks no shape itself."""
    spec, (rows, time, features) = parameters.spec, inputs.shape
    if not parameters.is_onednn or features != spec.input_size or not rows or not time:
        return False
    shape, (h0, c0) = (len(parameters.weights), rows, spec.hidden_size), state
    return h0.shape == c0.shape == shape and all(x.dtype is torch.float32 and x.is_cpu for x in (inputs, h0, c0))


def _step(parameters: Parameters, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    """One time step through `torch.lstm_cell`."""
    h0, c0 = (value.unbind() for value in state)  # (batch, unit) of each layer and direction
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
    """A few steps through oneDNN's inference kernel, with weights in its own order."""
    layer_input, directions = inputs.transpose(0, 1).contiguous(), parameters.spec.num_directions
    runs: list[onednn_kernel.Run] = []
    for weights, initial in zip(parameters.reordered(inputs.shape[0]), state.entries(), strict=True):
        runs.append(onednn_kernel.run(weights, layer_input, *initial, reverse=len(runs) % directions == 1))
        if len(runs) % directions == 0:
            layer_input = _side_by_side([run.output for run in runs[-directions:]])
    return layer_input.transpose(0, 1), State.joined([run.final for run in runs])


def _side_by_side(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.cat(values, dim=-1)
