"""Recurrent cells as data: their states, gates and signals, and their equations.

A `Cell` holds everything that differs from one cell to another. The rest of the library asks it for names, sizes and
ranges, and calls its functions. A further cell is one more value in `CELLS`; other functions of one are a `variant`.
"""

from __future__ import annotations

from torch import nn

from gatescope.cells.cell import Cell, Edit, Factor, Gate, Kept, Signal, Tensors, Term, Update
from gatescope.cells.functions import (
    COMPLEMENT,
    LINEAR,
    RELU,
    SIGMOID,
    TANH,
    Function,
    Functions,
    elu,
    function_named,
    hard_sigmoid,
    leaky_relu,
)
from gatescope.cells.gru import GRU
from gatescope.cells.lstm import LSTM
from gatescope.cells.modules import MODULES, VariantModule
from gatescope.cells.rnn import RNN, RNN_RELU
from gatescope.cells.variants import CELLS, variant

__all__ = [
    "CELLS",
    "COMPLEMENT",
    "GRU",
    "LINEAR",
    "LSTM",
    "MODULES",
    "RELU",
    "RNN",
    "RNN_RELU",
    "SIGMOID",
    "SIGNAL_NAMES",
    "TANH",
    "Cell",
    "Edit",
    "Factor",
    "Function",
    "Functions",
    "Gate",
    "Kept",
    "Signal",
    "Tensors",
    "Term",
    "Update",
    "VariantModule",
    "cell_of",
    "elu",
    "function_named",
    "hard_sigmoid",
    "leaky_relu",
    "variant",
]

SIGNAL_NAMES = tuple(dict.fromkeys(name for cell in CELLS for name in cell.signal_names))
"""Every signal of any cell."""


def cell_of(module: nn.Module) -> Cell:
    """The cell of this module.

    Raises:
        TypeError: it is no module of a known cell.
    """
    if isinstance(module, VariantModule):
        return module.cell
    for cell in CELLS:
        if isinstance(module, cell.module) and cell.nonlinearity == getattr(module, "nonlinearity", None):
            return cell
    known = " or ".join(dict.fromkeys(f"nn.{cell.module.__name__}" for cell in CELLS))
    raise TypeError(f"a recurrent module must be an {known}, not {type(module).__name__}")
