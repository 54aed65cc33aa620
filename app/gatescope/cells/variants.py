"""`variant`: a cell with other functions than PyTorch's, as Keras and ONNX name them."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

from gatescope.cells.cell import Cell
from gatescope.cells.functions import Function, Functions
from gatescope.cells.gru import GRU, gru
from gatescope.cells.lstm import LSTM, lstm
from gatescope.cells.rnn import RNN, RNN_RELU, rnn

CELLS: tuple[Cell, ...] = (LSTM, GRU, RNN, RNN_RELU)
"""The cells that PyTorch has."""


def variant(
    cell: Cell,
    *,
    gate: Function | None = None,
    candidate: Function | None = None,
    output: Function | None = None,
    reset_after: bool | None = None,
) -> Cell:
    """The cell with other functions; the same object for equal ones, and PyTorch's own cell for PyTorch's functions.

    Args:
        cell: its functions are those that are not given.
        gate: of the gates of an LSTM (f in ONNX) or a GRU.
        candidate: of an LSTM's or a GRU's candidate (g in ONNX); the function of a plain recurrent network.
        output: of an LSTM's cell state (h in ONNX).
        reset_after: whether a GRU's reset gate scales W_hn·h + b_hn, as PyTorch has it, and not h before the product.

    Raises:
        ValueError: the cell has no such function.
    """
    own = cell.functions
    present = _present(own)
    for name in _present(Functions(candidate or own.candidate, gate, output, reset_after)):
        if name not in present:
            raise ValueError(f"the cell '{cell.name}' has no '{name}'; it has {', '.join(present)}")
    kept = own.reset_after if reset_after is None else reset_after
    return _made(cell.name, Functions(candidate or own.candidate, gate or own.gate, output or own.output, kept))


def _present(functions: Functions) -> list[str]:
    return [field.name for field in fields(functions) if getattr(functions, field.name) is not None]


@cache
def _made(name: str, functions: Functions) -> Cell:
    for cell in CELLS:
        if (cell.name, cell.functions) == (name, functions):
            return cell
    gate, output = functions.gate, functions.output
    if gate is None:
        return rnn(functions.candidate)
    if output is None:
        return gru(gate, functions.candidate, reset_after=bool(functions.reset_after))
    return lstm(gate, functions.candidate, output)
