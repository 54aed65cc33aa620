"""`Spec`: the arguments an `nn.LSTM` was made with, read back from its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from gatescope.errors import WeightsError

DIRECTIONS = ("forward", "reverse")
GATES = 4  # PyTorch packs input, forget, cell and output gate into the rows of one matrix, in this order

_PARAMETER = re.compile(r"(weight|bias)_(ih|hh|hr)_l(\d+)(_reverse)?")


@dataclass(frozen=True)
class Spec:
    """The arguments of one `nn.LSTM`, under PyTorch's own names."""

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    proj_size: int = 0

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
        """Width of `nn.LSTM`'s output: the directions' hidden states side by side."""
        return self.num_directions * self.hidden_state_size

    @property
    def state_entries(self) -> int:
        """Layers · directions: how many states stand in `nn.LSTM`'s h0 and c0."""
        return self.num_layers * self.num_directions

    def state_shapes(self, batch: int) -> dict[str, tuple[int, int, int]]:
        """Shapes of `hidden_state` and `cell_state` in `nn.LSTM`'s layout (layers · directions, batch, size)."""
        return {
            "hidden_state": (self.state_entries, batch, self.hidden_state_size),
            "cell_state": (self.state_entries, batch, self.hidden_size),
        }

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter of this `nn.LSTM`, in PyTorch's order."""
        rows = GATES * self.hidden_size
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

    def build(self) -> nn.LSTM:
        """A fresh `nn.LSTM` of these arguments, batch first, in evaluation mode."""
        module = nn.LSTM(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            bias=self.bias,
            batch_first=True,
            bidirectional=self.bidirectional,
            proj_size=self.proj_size,
        )
        return module.eval()

    @classmethod
    def from_module(cls, module: nn.LSTM) -> Spec:
        """The arguments that this module was made with."""
        return cls(
            module.input_size,
            module.hidden_size,
            module.num_layers,
            module.bias,
            module.bidirectional,
            module.proj_size,
        )

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor], prefix: str = "") -> Spec:
        """Infer every argument from the names and shapes of an `nn.LSTM`'s parameters.

        Args:
            state_dict: a state dict, of the LSTM alone or of a larger module.
            prefix: what stands before the LSTM's own names in it, such as `"lstm."`.

        Raises:
            WeightsError: no LSTM stands under the prefix, a parameter is missing or too many, or a shape does not fit.
        """
        shapes = {
            name.removeprefix(prefix): tuple(value.shape)
            for name, value in state_dict.items()
            if name.startswith(prefix) and _PARAMETER.fullmatch(name.removeprefix(prefix))
        }
        spec = cls._guess(shapes, prefix)
        _compare(shapes, spec.parameter_shapes(), prefix)
        return spec

    @classmethod
    def _guess(cls, shapes: Mapping[str, tuple[int, ...]], prefix: str) -> Spec:
        for name in ("weight_ih_l0", "weight_hh_l0"):
            if name not in shapes:
                raise WeightsError(f"no nn.LSTM stands under the prefix '{prefix}': '{prefix}{name}' is missing")
            if len(shapes[name]) != 2:  # noqa: PLR2004
                raise WeightsError(f"'{prefix}{name}' must be a matrix, but has shape {list(shapes[name])}")
        rows, input_size = shapes["weight_ih_l0"]
        projection = shapes.get("weight_hr_l0", (0, shapes["weight_hh_l0"][1]))
        if len(projection) != 2 or not projection[0] < projection[1]:  # noqa: PLR2004
            wanted = "a matrix (proj_size, hidden_size) with proj_size < hidden_size"
            raise WeightsError(f"'{prefix}weight_hr_l0' must be {wanted}, but has shape {list(projection)}")
        proj_size, hidden_size = projection
        num_layers = 1 + max(int(match[3]) for name in shapes if (match := _PARAMETER.fullmatch(name)))
        if num_layers > len(shapes):
            raise WeightsError(
                f"the nn.LSTM under '{prefix}' is not whole: it has no weights of layer 1 to {num_layers - 2}"
            )
        if rows != GATES * hidden_size:
            raise WeightsError(_not_four_gates(rows, hidden_size, prefix))
        return cls(
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias="bias_ih_l0" in shapes or "bias_hh_l0" in shapes,
            bidirectional=any(name.endswith("_reverse") for name in shapes),
            proj_size=proj_size,
        )


def _not_four_gates(rows: int, hidden_size: int, prefix: str) -> str:
    kinds = {3 * hidden_size: "an nn.GRU (3 gates)", hidden_size: "a plain nn.RNN (no gates)"}
    looks_like = f": this looks like {kinds[rows]}" if rows in kinds else ""
    return (
        f"'{prefix}weight_ih_l0' has {rows} rows, but an nn.LSTM of hidden size {hidden_size} "
        f"has 4 · {hidden_size} = {GATES * hidden_size}{looks_like}"
    )


def _compare(given: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], prefix: str) -> None:
    for name, shape in expected.items():
        if name not in given:
            raise WeightsError(f"the nn.LSTM under '{prefix}' is not whole: '{prefix}{name}' is missing")
        if given[name] != shape:
            raise WeightsError(f"'{prefix}{name}' has shape {list(given[name])}; the other weights imply {list(shape)}")
    if surplus := sorted(given.keys() - expected.keys()):
        raise WeightsError(f"'{prefix}{surplus[0]}' does not belong to the nn.LSTM that the other weights describe")
