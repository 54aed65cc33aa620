"""`RecurrentNode`: an LSTM, GRU or RNN node of a graph, as the module that computes the same.

Weights stand in ONNX's order of gates, which is not PyTorch's (https://onnx.ai/onnx/operators/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from gatescope.cells import GRU, LSTM, RNN, Cell, variant
from gatescope.cells.functions import Function, elu, function_named, hard_sigmoid, leaky_relu
from gatescope.pipeline.onnx import proto
from gatescope.spec import Spec

TYPES = ("LSTM", "GRU", "RNN")

_BLOCKS = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""PyTorch's row blocks, as numbers of ONNX's: i, f, g, o of i, o, f, c; r, z, n of z, r, h."""

_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_OUTPUTS = ("Y", "Y_h", "Y_c")
_DIRECTIONS = ("forward", "reverse", "bidirectional")


class Untraceable(Exception):
    """A node that the equations do not know, with the reason."""


@dataclass(frozen=True)
class RecurrentNode:
    """A node, and the module of one layer that has its weights."""

    name: str
    module: nn.RNNBase
    is_reverse: bool
    """Whether it reads from the end only; the module then is given what it reads in that order."""
    inputs: Mapping[str, str]
    """ONNX's names of its inputs -> the graph's; those that it leaves out are missing."""
    outputs: Mapping[str, str]
    """The same of its outputs."""


def recurrent_node(node: onnx.NodeProto, name: str, constant: Callable[[str], np.ndarray | None]) -> RecurrentNode:
    """The node as a module.

    Args:
        node: an LSTM, GRU or RNN.
        name: what it is to be called.
        constant: the numbers of a value, None where they depend on the graph's inputs.

    Raises:
        Untraceable: its equations are not those of a known cell, or its weights depend on the inputs.
    """
    said, given = proto.attributes(node), _named(_INPUTS, node.input)
    direction = said.get("direction", "forward")
    if direction not in _DIRECTIONS or said.get("layout", 0):
        raise Untraceable("it has the batch before the time, or no known direction")
    cell = _cell(node.op_type, said, 2 if direction == "bidirectional" else 1)
    arrays = {key: constant(given[key]) for key in ("W", "R", "B", "P") if key in given}
    if missing := [key for key, value in arrays.items() if value is None]:
        raise Untraceable(f"its weights {missing[0]} depend on the graph's inputs")
    if (peepholes := arrays.pop("P", None)) is not None and peepholes.any():
        raise Untraceable("it has peepholes")
    module = _module(cell, node.op_type, direction, arrays)  # type: ignore[arg-type] # none is None
    return RecurrentNode(name, module, direction == "reverse", given, _named(_OUTPUTS, node.output))


def _named(names: tuple[str, ...], given: Any) -> dict[str, str]:
    return {name: value for name, value in zip(names, given, strict=False) if value}


def _cell(kind: str, said: proto.Attributes, directions: int) -> Cell:
    if said.get("clip"):
        raise Untraceable(f"it clips at {said['clip']:g}")
    if said.get("input_forget"):
        raise Untraceable("its forget gate is 1 − its input gate (input_forget)")
    count = {"LSTM": 3, "GRU": 2, "RNN": 1}[kind]
    functions = _functions(said)
    ways = {tuple(functions[start : start + count]) for start in range(0, len(functions), count)}
    if len(ways) > 1 or len(functions) not in {0, count * directions}:
        raise Untraceable(f"its activations are {', '.join(said['activations'])}")
    chosen = next(iter(ways), (None,) * count)
    if kind == "LSTM":
        return variant(LSTM, gate=chosen[0], candidate=chosen[1], output=chosen[2])
    if kind == "GRU":
        is_after = bool(said.get("linear_before_reset"))
        return variant(GRU, gate=chosen[0], candidate=chosen[1], reset_after=is_after)
    return variant(RNN, candidate=chosen[0])


def _functions(said: proto.Attributes) -> list[Function]:
    """The activations; each takes as many of the arguments as it has, in their order."""
    alphas, betas = (iter(said.get(f"activation_{each}") or ()) for each in ("alpha", "beta"))
    return [_function(name, alphas, betas) for name in said.get("activations") or ()]


def _function(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Function:
    plain = name.lower()
    if plain == "hardsigmoid":
        return hard_sigmoid(_argument(alphas, 0.2), _argument(betas, 0.5))
    if plain == "leakyrelu":
        return leaky_relu(_argument(alphas, 0.01))
    if plain == "elu":
        return elu(_argument(alphas, 1.0))
    if plain == "affine" and (_argument(alphas, 1.0), _argument(betas, 0.0)) == (1.0, 0.0):
        return function_named("linear")
    if plain in {"relu", "sigmoid", "softplus", "softsign", "tanh"}:
        return function_named(plain)
    raise Untraceable(f"its activation is {name}")


def _argument(given: Iterator[float], default: float) -> float:
    """A number as it was written, which float32 has in its neighbourhood."""
    return float(f"{next(given, default):.7g}")


def _module(cell: Cell, kind: str, direction: str, arrays: Mapping[str, np.ndarray]) -> nn.RNNBase:
    inner, recurrent = arrays["W"], arrays["R"]  # (directions, gates · H, I) and (directions, gates · H, H)
    directions, rows, size = 2 if direction == "bidirectional" else 1, len(cell.gates), recurrent.shape[-1]
    expected = (directions, rows * size, inner.shape[-1]), (directions, rows * size, size)
    if (inner.shape, recurrent.shape) != expected:
        raise Untraceable(f"its weights have the shapes {inner.shape} and {recurrent.shape}")
    spec = Spec(inner.shape[-1], size, bias="B" in arrays, bidirectional=directions > 1, cell=cell)
    with torch.device("meta"):  # these weights are replaced: they need no memory and no random numbers
        module = spec.build()
    weights: dict[str, Tensor] = {}
    for index in range(directions):
        suffix = "_reverse" if index else ""
        weights[f"weight_ih_l0{suffix}"] = _reordered(kind, inner[index], size)
        weights[f"weight_hh_l0{suffix}"] = _reordered(kind, recurrent[index], size)
        if "B" in arrays:
            for name, bias in zip(("bias_ih", "bias_hh"), np.split(arrays["B"][index], 2), strict=True):
                weights[f"{name}_l0{suffix}"] = _reordered(kind, bias, size)
    module.load_state_dict(weights, assign=True)
    return module.requires_grad_(requires_grad=False)


def _reordered(kind: str, values: np.ndarray, size: int) -> nn.Parameter:
    """(gates · H, …) with the blocks in PyTorch's order."""
    blocks = [values[block * size : (block + 1) * size] for block in _BLOCKS[kind]]
    return nn.Parameter(torch.from_numpy(np.concatenate(blocks).astype(np.float32)), requires_grad=False)
