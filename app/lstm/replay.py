"""Replay: the gates of a layer, from the hidden states that the fused kernel computed.

Once every h_{t−1} is known, the gates of all steps are one matrix product, and only c_t = f_t·c_{t−1} + i_t·g_t is
left to scan. Exact to rounding for every `nn.LSTM` on every device.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from app.lstm import fused
from app.lstm.chunk import Chunk, parts
from app.lstm.spec import GATES
from app.lstm.state import State
from app.lstm.weights import Weights


def chunks(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor) -> Iterator[Chunk]:
    """Run the fused kernel over (time, batch, feature), then compute what it hid; a `Method`."""
    h, c = h0, c0
    for start, part in parts(inputs, c0.shape[-1]):
        chunk = _replay(weights, part, h, c, start)
        yield chunk
        h, c = chunk.final


def _replay(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor, start: int) -> Chunk:
    hidden_state = fused.run(weights, inputs, h0, c0).output  # (time, batch, P)
    before = torch.cat((h0, hidden_state[:-1]))  # h_{t−1}: (time, batch, P)
    z = torch.matmul(inputs, weights.weight_ih.T)  # (time, batch, 4H)
    z += torch.matmul(before, weights.weight_hh.T)
    if weights.bias is not None:
        z += weights.bias
    z_i, z_f, z_g, z_o = z.chunk(GATES, dim=-1)
    i, f, g = z_i.sigmoid_(), z_f.sigmoid_(), z_g.tanh_()  # in place: (time, batch, H)
    z_o.sigmoid_()
    cell_state = _scan(f, i * g, c0[0])
    final = State(hidden_state[-1:].clone(), cell_state[-1:].clone())  # whoever keeps it need not keep all steps
    return Chunk(start, z, cell_state, hidden_state, final)


def _scan(forget: Tensor, written: Tensor, c0: Tensor) -> Tensor:
    """c_t = forget_t·c_{t−1} + written_t over (time, batch, unit), in place of `written`."""
    c = c0
    for kept, new in zip(forget.unbind(), written.unbind(), strict=True):
        c = new.addcmul_(kept, c)
    return written
