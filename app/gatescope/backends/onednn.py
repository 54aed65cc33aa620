"""The gates of an LSTM from oneDNN's workspace: its training kernel leaves them there.

The training kernel (`onednn_kernel.py`) returns, beside its outputs, the memory that its backward pass would read. In
float32 that memory begins with the activated gates and holds the cell states further on. The layout is private to
oneDNN (`src/cpu/rnn/rnn_utils.cpp` of oneDNN 3 describes it). So `probe.py` uses it only where a probe has proved it,
and the first run of every shape is checked here, step by step, against the recurrence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gatescope.backends import onednn_kernel
from gatescope.backends.chunk import Chunk, split_time
from gatescope.cells import LSTM, Cell, Tensors
from gatescope.weights import Weights

_GATES = len(LSTM.gates)
_PAGE_FLOATS = 1024  # each part of the workspace begins on a page of 4 KiB
_TOLERANCE = 1e-4

_MAX_CHECKED_SHAPES = 10_000
_checked_shapes: set[tuple[int, ...]] = set()
"""Shapes whose workspace was read and checked in full: the layout depends on nothing else."""


class LayoutChanged(RuntimeError):
    """What was read from the workspace is not what the kernel computed."""


class Layout(NamedTuple):
    """Where the values lie in the workspace, in floats."""

    gates: int  # where [time][batch][4H] begins
    gates_row: int  # from one (time, batch) row of gates to the next
    cell_state: int  # where [time][batch][H] begins


@lru_cache(maxsize=1024)
def layout(time: int, batch: int, features: int, hidden_size: int) -> Layout:
    """The workspace of one layer and direction, float32, without projection."""
    gates_row = _leading(_GATES * hidden_size)
    states_row = max(_leading(features), _leading(hidden_size))
    gates = _pages(time * batch * gates_row)
    states = _pages(2 * (time + 1) * batch * states_row)  # the layer's input and its hidden states
    hidden = _pages(time * batch * _leading(hidden_size))
    before_first = (time + 2) * batch * hidden_size  # the input layer's plane, and the slot of c0
    return Layout(0, gates_row, gates + states + hidden + before_first)


def check(residual: float) -> None:
    """Raise `LayoutChanged` if a whole trace's residual is more than the rounding of one tanh; NaN is an overflow."""
    if _TOLERANCE < residual < float("inf"):
        raise LayoutChanged(f"a trace read from oneDNN's workspace left a residual of {residual:.3g}")


def chunks(
    cell: Cell,  # noqa: ARG001
    weights: Weights,
    inputs: Tensor,
    initial: Tensors,
    *,
    on_request: bool = True,  # noqa: ARG001
) -> Iterator[Chunk]:
    """Run the kernel over (time, batch, feature) and read its workspace; a `Backend` of the LSTM."""
    for start, part in split_time(inputs, weights.hidden_size):
        chunk = _run(weights, part, initial, start)
        yield chunk
        initial = chunk.final


def _run(weights: Weights, inputs: Tensor, initial: Tensors, start: int) -> Chunk:
    h0, c0 = initial
    (time, batch, features), hidden_size = inputs.shape, c0.shape[-1]
    # the kernel returns the workspace in gradient mode only; nothing here requires a gradient, so none is recorded
    with _outside_inference() if torch.is_inference_mode_enabled() else torch.enable_grad():
        output, final, workspace = onednn_kernel.run(weights, inputs, h0, c0)
    floats = workspace.view(torch.float32)
    gates_start, row, cells_start = layout(time, batch, features, hidden_size)
    if cells_start + time * batch * hidden_size > floats.shape[0]:
        raise LayoutChanged("oneDNN's workspace is smaller than what is to be read from it")
    gates = floats.as_strided((time, batch, _GATES * hidden_size), (batch * row, row, 1), gates_start)
    step = batch * hidden_size
    cell_state = floats.as_strided((time, batch, hidden_size), (step, hidden_size, 1), cells_start)
    last = floats.as_strided((1, batch, hidden_size), (step, hidden_size, 1), cells_start + (time - 1) * step)
    last.copy_(final[1])  # the kernel returns the last cell state separately and leaves its place empty
    chunk = Chunk(start, (gates,), (output, cell_state), final)
    shape = time, batch, features, hidden_size, torch.get_num_threads()
    if shape not in _checked_shapes:
        _check_recurrence(chunk, c0)
        _remember(shape)
    return chunk


def _remember(shape: tuple[int, ...]) -> None:
    if len(_checked_shapes) == _MAX_CHECKED_SHAPES:
        _checked_shapes.clear()
    _checked_shapes.add(shape)


@contextmanager
def _outside_inference() -> Iterator[None]:
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


def _check_recurrence(chunk: Chunk, c0: Tensor) -> None:
    """Compare every step that was read with the kernel's hidden states and with the step before."""
    i, f, g, o = chunk.blocks[0].chunk(_GATES, dim=-1)
    h, c = chunk.states
    previous = torch.cat((c0, c[:-1]))  # c_{t−1}: (time, batch, H)
    cell_error = (f * previous).addcmul_(i, g).sub_(c)
    hidden_error = c.tanh().mul_(o).sub_(h)
    if float(torch.maximum(cell_error.abs_().amax(), hidden_error.abs_().amax())) <= _TOLERANCE:
        return
    if bool(c.isfinite().all() and h.isfinite().all()):  # else an overflow, which the kernel has too
        raise LayoutChanged("what was read from oneDNN's workspace is not what the kernel computed")


def _leading(size: int) -> int:
    """The row length that oneDNN takes: whole cache lines, no multiple of 1 KiB, which would collide in the cache."""
    row = -(-size // 16) * 16
    return row + 16 if row % 256 == 0 else row


def _pages(floats: int) -> int:
    return -(-floats // _PAGE_FLOATS) * _PAGE_FLOATS
