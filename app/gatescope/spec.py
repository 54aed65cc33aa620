"""`Spec`: the arguments that a recurrent module was made with, read back from its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from gatescope.cells import CELLS, LSTM, MODULES, Cell, Signal, cell_of
from gatescope.errors import WeightsError

DIRECTIONS = ("forward", "reverse")

_PARAMETER = re.compile(r"(weight|bias)_(ih|hh|hr)_l(\d+)(_reverse)?")
_MATRIX = 2  # axes
_MODULES = " or ".join(dict.fromkeys(f"nn.{cell.module.__name__}" for cell in CELLS))


@dataclass(frozen=True)
class Spec:
    """The cell of one recurrent module and its arguments, under PyTorch's own names."""

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    proj_size: int = 0
    cell: Cell = LSTM

    @property
    def arguments(self) -> dict[str, Any]:
        """What PyTorch's constructor takes, by name."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.bias,
            "bidirectional": self.bidirectional,
            "proj_size": self.proj_size,
        }

    @property
    def directions(self) -> tuple[str, ...]:
        """`("forward",)`, or `("forward", "reverse")` when bidirectional."""
        return DIRECTIONS if self.bidirectional else DIRECTIONS[:1]

    @property
    def num_directions(self) -> int:
        """1, or 2 when bidirectional."""
        return len(self.directions)

    @property
    def hidden_state_size(self) -> int:
        """Width of a hidden state: `proj_size` where that is set, else `hidden_size`."""
        return self.proj_size or self.hidden_size

    @property
    def output_size(self) -> int:
        """Width of the module's output: the directions' hidden states side by side."""
        return self.num_directions * self.hidden_state_size

    @cached_property
    def state_entries(self) -> int:
        """Layers · directions: the first axis of the module's initial and final states."""
        return self.num_layers * self.num_directions

    @cached_property
    def signals(self) -> tuple[Signal, ...]:
        """The signals of the cell, in order; a projected one has no bounds."""
        if not self.proj_size:
            return self.cell.signals
        return tuple(
            replace(signal, low=None, high=None) if signal.is_projected else signal for signal in self.cell.signals
        )

    @property
    def signal_names(self) -> tuple[str, ...]:
        """The signals of a trace that names none, in order."""
        return self.cell.default_signal_names

    @cached_property
    def signal_sizes(self) -> dict[str, int]:
        """Width of each signal."""
        return {
            signal.name: self.hidden_state_size if signal.is_projected else self.hidden_size
            for signal in self.cell.signals
        }

    @cached_property
    def state_sizes(self) -> tuple[int, ...]:
        """Width of each state, in the order of the cell's states."""
        return tuple(self.signal_sizes[state] for state in self.cell.states)

    def state_shapes(self, batch: int) -> dict[str, tuple[int, int, int]]:
        """Shape of each state in the module's layout (layers · directions, batch, size), by name."""
        sizes = zip(self.cell.states, self.state_sizes, strict=True)
        return {state: (self.state_entries, batch, size) for state, size in sizes}

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter of the module, in PyTorch's order."""
        rows = len(self.cell.gates) * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_layers):
            width = self.input_size if layer == 0 else self.output_size
            for direction in self.directions:
                suffix = f"l{layer}" + ("_reverse" if direction == "reverse" else "")
                shapes[f"weight_ih_{suffix}"] = (rows, width)
                shapes[f"weight_hh_{suffix}"] = (rows, self.hidden_state_size)
                if self.bias:
                    shapes[f"bias_ih_{suffix}"] = shapes[f"bias_hh_{suffix}"] = (rows,)
                if self.proj_size:
                    shapes[f"weight_hr_{suffix}"] = (self.proj_size, self.hidden_size)
        return shapes

    def build(self) -> nn.RNNBase:
        """A new module of these arguments, batch first, in evaluation mode.

        Of a variant it is a subclass of PyTorch's module that computes by the equations.
        """
        arguments = self.arguments
        if not self.proj_size:
            del arguments["proj_size"]  # PyTorch takes it for some cells only
        if self.cell.is_variant:
            return MODULES[self.cell.name](self.cell, **arguments, batch_first=True).eval()
        if self.cell.nonlinearity is not None:
            arguments["nonlinearity"] = self.cell.nonlinearity
        return self.cell.module(**arguments, batch_first=True).eval()

    @classmethod
    def from_module(cls, module: nn.RNNBase) -> Spec:
        """The cell and the arguments of this module.

        Raises:
            TypeError: it is no module of a known cell.
        """
        cell = cell_of(module)
        return cls(
            module.input_size,
            module.hidden_size,
            module.num_layers,
            module.bias,
            module.bidirectional,
            module.proj_size,
            cell,
        )

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor], prefix: str = "") -> Spec:
        """Infer the cell and every argument from the names and shapes of a recurrent module's parameters.

        Args:
            state_dict: a state dict, of the recurrent module alone or of a larger one.
            prefix: what stands before the recurrent module's own names in it, such as `"lstm."`.

        Raises:
            WeightsError: no recurrent module of a known cell stands under the prefix, a parameter is missing or
                surplus, or a shape does not fit.
        """
        shapes = {
            name.removeprefix(prefix): tuple(value.shape)
            for name, value in state_dict.items()
            if name.startswith(prefix) and _PARAMETER.fullmatch(name.removeprefix(prefix))
        }
        spec = cls._infer(shapes, prefix)
        _compare(shapes, spec, prefix)
        return spec

    @classmethod
    def _infer(cls, shapes: Mapping[str, tuple[int, ...]], prefix: str) -> Spec:
        for name in ("weight_ih_l0", "weight_hh_l0"):
            if name not in shapes:
                raise WeightsError(f"no {_MODULES} stands under the prefix '{prefix}': '{prefix}{name}' is missing")
            if len(shapes[name]) != _MATRIX:
                raise WeightsError(f"'{prefix}{name}' must be a matrix, but has shape {list(shapes[name])}")
        rows, input_size = shapes["weight_ih_l0"]
        projection = shapes.get("weight_hr_l0", (0, shapes["weight_hh_l0"][1]))
        if len(projection) != _MATRIX or not projection[0] < projection[1]:
            expected = "a matrix (proj_size, hidden_size) with proj_size < hidden_size"
            raise WeightsError(f"'{prefix}weight_hr_l0' must be {expected}, but has shape {list(projection)}")
        proj_size, hidden_size = projection
        num_layers = 1 + max(int(match[3]) for name in shapes if (match := _PARAMETER.fullmatch(name)))
        if num_layers > len(shapes):
            raise WeightsError(
                f"the {_MODULES} under '{prefix}' is incomplete: it has no weights of layer 1 to {num_layers - 2}"
            )
        return cls(
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias="bias_ih_l0" in shapes or "bias_hh_l0" in shapes,
            bidirectional=any(name.endswith("_reverse") for name in shapes),
            proj_size=proj_size,
            cell=_cell_of_rows(rows, hidden_size, prefix),
        )


def _cell_of_rows(rows: int, hidden_size: int, prefix: str) -> Cell:
    """The cell with so many row blocks; of several, the first: weights do not show functions."""
    for cell in CELLS:
        if rows == len(cell.gates) * hidden_size:
            return cell
    expected = " or ".join(
        dict.fromkeys(
            f"an nn.{cell.module.__name__} of hidden size {hidden_size} has {len(cell.gates) * hidden_size}"
            for cell in CELLS
        )
    )
    raise WeightsError(f"'{prefix}weight_ih_l0' has {rows} rows, but {expected}")


def _compare(given: Mapping[str, tuple[int, ...]], spec: Spec, prefix: str) -> None:
    expected, module = spec.parameter_shapes(), f"nn.{spec.cell.module.__name__}"
    for name, shape in expected.items():
        if name not in given:
            raise WeightsError(f"the {module} under '{prefix}' is incomplete: '{prefix}{name}' is missing")
        if given[name] != shape:
            raise WeightsError(f"'{prefix}{name}' has shape {list(given[name])}; the other weights imply {list(shape)}")
    if surplus := sorted(given.keys() - expected.keys()):
        raise WeightsError(f"'{prefix}{surplus[0]}' does not belong to the {module} that the other weights describe")
