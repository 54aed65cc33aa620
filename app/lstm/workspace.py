"""The gates from oneDNN's own workspace: the kernel has computed them, and in training mode it leaves them behind.

`mkldnn_rnn_layer(…, train=True)` returns, beside its outputs, the memory that its backward pass would read. In float32
that begins with the activated gates and holds the cell states further on. The layout is oneDNN's private matter
(`src/cpu/rnn/rnn_utils.cpp` of oneDNN 3 describes it), so `app/lstm/method.py` uses it only where a probe has proved
it, and `trace` checks what it reads against the recurrence each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from app.lstm.chunk import Chunk, spans
from app.lstm.spec import GATES
from app.lstm.weights import Weights

_LSTM_MODE = 2
_PAGE = 1024  # floats: each part of the workspace begins on a page of 4 KiB


_TOLERANCE = 1e-4


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
    time, batch, features = inputs.shape
    h, c = h0, c0
    for span in spans(time, batch, max(features, c0.shape[-1])):
        chunk, h, c = _run(weights, inputs[span], h, c, span.start)
        yield chunk


def _run(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor, start: int) -> tuple[Chunk, Tensor, Tensor]:
    (time, batch, features), hidden_size = inputs.shape, c0.shape[-1]
    zeros = inputs.new_zeros(GATES * hidden_size) if weights.bias_ih is None else None
    # the workspace is kept in gradient mode only; nothing here requires a gradient, so none is recorded
    with _outside_inference(), torch.enable_grad():
        output, h, c, workspace = torch.ops.aten.mkldnn_rnn_layer(
            inputs,
            weights.weight_ih,
            weights.weight_hh,
            weights.bias_ih if zeros is None else zeros,
            weights.bias_hh if zeros is None else zeros,
            h0.contiguous(),
            c0.contiguous(),
            reverse=False,
            batch_sizes=[],
            mode=_LSTM_MODE,
            hidden_size=hidden_size,
            num_layers=1,
            has_biases=True,
            bidirectional=False,
            batch_first=False,
            train=True,
        )
    floats = workspace.view(torch.float32)
    where = layout(time, batch, features, hidden_size)
    row = where.gates_row
    if where.cell_state + time * batch * hidden_size > len(floats):
        raise LayoutChanged("oneDNN's workspace is smaller than what is to be read from it")
    gates = floats.as_strided((time, batch, GATES * hidden_size), (batch * row, row, 1), where.gates)
    cell_state = floats.as_strided((time, batch, hidden_size), (batch * hidden_size, hidden_size, 1), where.cell_state)
    h, c = h.view(batch, hidden_size), c.view(batch, hidden_size)
    cell_state[-1] = c  # the kernel gives the last one apart and leaves its slot empty
    _check_last(gates[-1], cell_state[-2] if time > 1 else c0, h, c)
    return Chunk(start, gates, cell_state, output), h, c


def _outside_inference() -> AbstractContextManager[None]:
    return torch.inference_mode(mode=False) if torch.is_inference_mode_enabled() else nullcontext()


def _check_last(gates: Tensor, before: Tensor, h: Tensor, c: Tensor) -> None:
    """Hold what was read of the last step against the states that the kernel gave apart."""
    i, f, g, o = gates.chunk(GATES, dim=-1)
    rebuilt = (f * before).addcmul_(i, g).addcmul_(o, c.tanh())  # both states in one: this runs with every chunk
    if float(torch.linalg.vector_norm(rebuilt.sub_(c).sub_(h), ord=torch.inf)) <= _TOLERANCE:
        return
    if bool(c.isfinite().all() and h.isfinite().all()):  # else an overflow, which the kernel has seen too
        raise LayoutChanged("the last step read from oneDNN's workspace is not the one that the kernel computed")


def _leading(size: int) -> int:
    """The row length that oneDNN takes: whole cache lines, but no multiple of 1 KiB, for the cache's sake."""
    row = -(-size // 16) * 16
    return row + 16 if row % 256 == 0 else row


def _pages(floats: int) -> int:
    return -(-floats // _PAGE) * _PAGE
