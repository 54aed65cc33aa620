"""Other ways to see the gates of an `nn.LSTM` of one layer and direction: what tutorials show, and TensorFlow's op."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn

Way = Callable[[], object]


def ways(module: nn.LSTM, inputs: Tensor) -> dict[str, Way]:
    """Each by its name, ready to run; TensorFlow's only where it is installed."""
    cell = _cell(module)
    found: dict[str, Way] = {
        "cell loop": lambda: cell_loop(cell, inputs),
        "gate loop": lambda: gate_loop(module, inputs),
    }
    if find_spec("tensorflow") is not None:
        found["BlockLSTMV2"] = _block(module, inputs)
    return found


@torch.no_grad()
def cell_loop(cell: nn.LSTMCell, inputs: Tensor) -> Tensor:
    """`nn.LSTMCell` step by step; it sees h and c, and still not the gates."""
    h = c = inputs.new_zeros(len(inputs), cell.hidden_size)
    states = []
    for x in inputs.unbind(1):
        h, c = cell(x, (h, c))
        states.append(c)
    return torch.stack(states, dim=1)


@torch.no_grad()
def gate_loop(module: nn.LSTM, inputs: Tensor) -> list[Tensor]:
    """The equations step by step, all six signals kept: each (batch, time, unit)."""
    h = c = inputs.new_zeros(len(inputs), module.hidden_size)
    w_ih, w_hh, b_ih, b_hh = (
        getattr(module, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    steps = []
    for x in inputs.unbind(1):
        i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        h = o * c.tanh()
        steps.append((i, f, g, o, c, h))
    return [torch.stack(signal, dim=1) for signal in zip(*steps, strict=True)]


def _cell(module: nn.LSTM) -> nn.LSTMCell:
    cell = nn.LSTMCell(module.input_size, module.hidden_size)
    state = {name.removesuffix("_l0"): value for name, value in module.state_dict().items()}
    cell.load_state_dict(state)
    return cell


def _block(module: nn.LSTM, inputs: Tensor) -> Way:
    """`tf.raw_ops.BlockLSTMV2`, the one mainstream fused op that returns its gates; they stand in PyTorch's order.

    Raises:
        RuntimeError: its hidden states are not the module's.
    """
    import tensorflow as tf  # noqa: PLC0415

    batch, time, _ = inputs.shape
    w_ih, w_hh, b_ih, b_hh = module.state_dict().values()
    weights = torch.cat([w_ih, w_hh], dim=1).T.numpy()
    nothing = np.zeros((batch, module.hidden_size), dtype=np.float32)
    peephole = np.zeros(module.hidden_size, dtype=np.float32)
    arguments = {
        "seq_len_max": tf.constant(time, dtype=tf.int64),
        "x": tf.constant(inputs.transpose(0, 1).contiguous().numpy()),
        "cs_prev": tf.constant(nothing),
        "h_prev": tf.constant(nothing),
        "w": tf.constant(np.ascontiguousarray(weights)),
        **{name: tf.constant(peephole) for name in ("wci", "wcf", "wco")},
        "b": tf.constant((b_ih + b_hh).numpy()),
    }

    def run() -> object:
        return tf.raw_ops.BlockLSTMV2(**arguments, cell_clip=0.0)

    with torch.no_grad():
        expected = module(inputs)[0].transpose(0, 1).numpy()
    if not np.allclose(run().h.numpy(), expected, atol=1e-5):  # type: ignore[attr-defined]
        raise RuntimeError("BlockLSTMV2 computes something else")
    return run
