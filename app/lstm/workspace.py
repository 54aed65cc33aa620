"""The gates from oneDNN's own workspace: the kernel has computed them, and in training mode it leaves them behind.

`mkldnn_rnn_layer(…, train=True)` returns, beside its outputs, the memory that its backward pass would read. In float32
that begins with the activated gates and holds the cell states further on. The layout is oneDNN's private matter
(`src/cpu/rnn/rnn_utils.cpp` of oneDNN 3 describes it), so `app/lstm/method.py` uses it only where a probe has proved
it, and the first run of every shape is checked here, step by step, against the recurrence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from app.lstm.chunk import Chunk, parts
from app.lstm.spec import GATES
from app.lstm.weights import Weights

_LSTM_MODE = 2
_PAGE = 1024  # floats: each part of the workspace begins on a page of 4 KiB


_TOLERANCE = 1e-4
_MOST_SEEN = 10_000
_seen: set[tuple[int, ...]] = (
    set()
)  # shapes whose workspace was read and checked in full: its layout hangs on nothing else


class LayoutChanged(RuntimeError):
    """What was read from the workspace is not what the kernel computed."""


class Layout(NamedTuple):
    """Where things stand in the workspace, in floats."""

    gates: int  # where [time][batch][4H] begins
    gates_row: int  # from one (time, batch) row of gates to the next
    cell_state: int  # where [time][batch][H] begins


def layout(time: int, batch: int, features: int, hidden_size: int) -> Layout:
    """The workspace of one layer and direction, float32, without projection."""
    gates_row = _leading(GATES * hidden_size)
    states_row = max(_leading(features), _leading(hidden_size))
    gates = _pages(time * batch * gates_row)
    states = _pages(2 * (time + 1) * batch * states_row)  # the layer's input and its hidden states
    hidden = _pages(time * batch * _leading(hidden_size))
    before_first = (time + 2) * batch * hidden_size  # the input layer's plane, and the slot of c0
    return Layout(0, gates_row, gates + states + hidden + before_first)


def supports(weights: Weights) -> bool:
    """Whether the kernel runs these weights at all: float32 on a CPU with oneDNN, no projection."""
    weight = weights.weight_ih
    return (
        bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled)  # type: ignore[no-untyped-call]
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weights.weight_hr is None
        and hasattr(torch.ops.aten, "mkldnn_rnn_layer")
    )


def check(residual: float) -> None:
    """Raise `LayoutChanged` if a whole trace's residual is more than the rounding of one tanh; NaN is an overflow."""
    if _TOLERANCE < residual < float("inf"):
        raise LayoutChanged(f"a trace read from oneDNN's workspace left a residual of {residual:.3g}")


def chunks(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor) -> Iterator[Chunk]:
    """Run the kernel over (time, batch, feature) and read its workspace; a `Method`."""
    h, c = h0, c0
    for start, part in parts(inputs, c0.shape[-1]):
        chunk, h, c = _run(weights, part, h, c, start)
        yield chunk


def _run(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor, start: int) -> tuple[Chunk, Tensor, Tensor]:
    (time, batch, features), hidden_size = inputs.shape, c0.shape[-1]
    bias_ih, bias_hh = weights.bias_ih, weights.bias_hh
    if bias_ih is None or bias_hh is None:
        bias_ih = bias_hh = inputs.new_zeros(GATES * hidden_size)
    # the workspace is kept in gradient mode only; nothing here requires a gradient, so none is recorded
    with _outside_inference(), torch.enable_grad():
        output, h, c, workspace = torch.ops.aten.mkldnn_rnn_layer.default(
            inputs,
            weights.weight_ih,
            weights.weight_hh,
            bias_ih,
            bias_hh,
            h0.contiguous(),
            c0.contiguous(),
            False,  # reverse
            [],  # batch_sizes
            _LSTM_MODE,
            hidden_size,
            1,  # num_layers
            True,  # has_biases
            False,  # bidirectional
            False,  # batch_first
            True,  # train
        )
    floats = workspace.view(torch.float32)
    where = layout(time, batch, features, hidden_size)
    row = where.gates_row
    if where.cell_state + time * batch * hidden_size > len(floats):
        raise LayoutChanged("oneDNN's workspace is smaller than what is to be read from it")
    gates = floats.as_strided((time, batch, GATES * hidden_size), (batch * row, row, 1), where.gates)
    cell_state = floats.as_strided((time, batch, hidden_size), (batch * hidden_size, hidden_size, 1), where.cell_state)
    cell_state[-1] = c  # the kernel gives the last one apart and leaves its slot empty
    chunk = Chunk(start, gates, cell_state, output)
    shape = time, batch, features, hidden_size, torch.get_num_threads()
    if shape not in _seen:
        _check_recurrence(chunk, c0)
        _remember(shape)
    return chunk, h, c


def _remember(shape: tuple[int, ...]) -> None:
    if len(_seen) == _MOST_SEEN:
        _seen.clear()
    _seen.add(shape)


def _outside_inference() -> AbstractContextManager[None]:
    return torch.inference_mode(mode=False) if torch.is_inference_mode_enabled() else nullcontext()


def _check_recurrence(chunk: Chunk, c0: Tensor) -> None:
    """Hold every step that was read against the hidden states that the kernel gave, and against the step before."""
    i, f, g, o, c, h = chunk.signals
    before = torch.cat((c0[None], c[:-1]))  # c_{t−1}: (time, batch, H)
    cell_gap = (f * before).addcmul_(i, g).sub_(c)
    hidden_gap = c.tanh().mul_(o).sub_(h)
    if float(torch.maximum(cell_gap.abs_().amax(), hidden_gap.abs_().amax())) <= _TOLERANCE:
        return
    if bool(c.isfinite().all() and h.isfinite().all()):  # else an overflow, which the kernel has seen too
        raise LayoutChanged("what was read from oneDNN's workspace is not what the kernel computed")


def _leading(size: int) -> int:
    """The row length that oneDNN takes: whole cache lines, but no multiple of 1 KiB, for the cache's sake."""
    row = -(-size // 16) * 16
    return row + 16 if row % 256 == 0 else row


def _pages(floats: int) -> int:
    return -(-floats // _PAGE) * _PAGE
