"""`recurrent_calls`: the recurrent nodes of a graph, as calls of modules that hooks can hear."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor, nn

from gatescope.capture import RecurrentModule
from gatescope.cells import CELLS, Cell
from gatescope.errors import CheckpointError
from gatescope.names import quoted
from gatescope.pipeline.export.graph import Bound, Graph, Node, Ref
from gatescope.pipeline.export.operators import refusal_of
from gatescope.spec import Spec

_CELL_PARAMETERS = ("w_ih", "w_hh", "b_ih", "b_hh")
_PARAMETER = re.compile(r"^(?:(.*)\.)?(?:weight|bias)_(?:ih|hh|hr)(?:_l\d+(?:_reverse)?)?$")
_IS_CELL = re.compile(r"aten\.(\w+)_cell\.default")
_IS_OVER_TIME = re.compile(r"aten\.(\w+)\.input")
_MATRIX = 2  # axes
_OVER_TIME = 3


@dataclass(frozen=True)
class RecurrentCall:
    """A node that calls a recurrent module: the module's name, its kind and the names of its parameters."""

    node: Node
    name: str
    cell: Cell
    parameters: tuple[str, ...]  # in the graph
    is_cell: bool

    @property
    def batch_first(self) -> bool:
        """Whether its inputs are (batch, time, feature), not (time, batch, feature)."""
        return bool(self.node.get("batch_first"))

    @property
    def key(self) -> Any:
        """What calls of one module have in common."""
        return self.cell.name, self.cell.nonlinearity, self.parameters, self.batch_first, self.is_cell


def recurrent_calls(graph: Graph) -> dict[str, RecurrentCall]:
    """The recurrent nodes by name; those with the same parameters call one module.

    Raises:
        CheckpointError: there is none, or the parameters of one are computed, not stored.
    """
    bound = {each.name: each for each in graph.bound}
    calls: dict[str, RecurrentCall] = {}
    names: dict[Any, str] = {}
    for node in graph.nodes:
        if (found := _cell_of(node)) is None:
            continue
        if (refusal := refusal_of(node)) is not None:
            raise CheckpointError(f"node {quoted(node.name)} ({node.operator}) {refusal}")
        parameters = _parameters(node, is_cell=found[1])
        if computed := [name for name in parameters if name not in bound]:
            raise CheckpointError(
                f"node {quoted(node.name)} ({node.operator}) has weights that the graph computes, such as "
                f"{quoted(computed[0])}; fold the parametrisation into the weights before the export: "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
        call = RecurrentCall(node, "", found[0], parameters, found[1])
        if call.key not in names:
            names[call.key] = _name(node, [bound[name] for name in parameters], found[0], set(names.values()))
        calls[node.name] = replace(call, name=names[call.key])
    if not calls:
        raise CheckpointError(
            "its graph calls no recurrent operator (aten.lstm, aten.gru, aten.rnn_tanh, aten.rnn_relu, or a cell of "
            "these), so there is nothing to trace; run_decompositions() unrolls them: save what torch.export.export "
            "returned"
        )
    return calls


def as_call(call: RecurrentCall) -> Node:
    """The node with the module in place of its weights, as the value `module_value(name)`."""
    node = call.node
    arguments = (("module", Ref(module_value(call.name))), ("input", node.get("input")), ("hx", node.get("hx")))
    return replace(node, arguments=arguments)


def module_value(name: str) -> str:
    """Under which name a run finds a recurrent module."""
    return f"module {name}"


def build(call: RecurrentCall, tensors: Mapping[str, Tensor]) -> RecurrentModule:
    """The module that a node calls, with its weights.

    Raises:
        CheckpointError: the weights are no such module's.
    """
    values = [tensors[name] for name in call.parameters]
    spec = _spec(call, values)
    expected = list(spec.parameter_shapes().values())
    given = [tuple(value.shape) for value in values]
    if given != expected:
        raise CheckpointError(
            f"node {quoted(call.node.name)} ({call.node.operator}) has weights of shapes {given}, which are none of "
            f"an nn.{spec.cell.module.__name__}"
        )
    if not all(value.dtype == torch.float32 for value in values):
        raise CheckpointError(f"node {quoted(call.node.name)} ({call.node.operator}) has weights that are no floats")
    with torch.device("meta"):  # these weights are replaced: they need no memory and no random numbers
        module = _cell_module(spec) if call.is_cell else spec.build()
    for name, value in zip(spec.parameter_shapes(), values, strict=True):
        own = name.removesuffix("_l0") if call.is_cell else name
        setattr(module, own, nn.Parameter(value, requires_grad=False))
    if isinstance(module, nn.RNNBase):
        module.batch_first = call.batch_first
    return module.eval()


def called(call: RecurrentCall, given: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """What a recurrent node returns: it calls the module; on the meta device only sizes are found out.

    Args:
        call: the node.
        given: the arguments of `as_call`'s node, by name.
    """
    module, inputs, hx = given["module"], given["input"], given["hx"]
    states = tuple(hx) if isinstance(hx, list) else (hx,)
    if inputs.is_meta:
        return _sizes(call, module, inputs, states)
    returned = module(inputs, states if len(call.cell.states) > 1 else states[0])
    if call.is_cell:
        return tuple(returned) if isinstance(returned, tuple) else (returned,)
    output, final = returned
    return (output, *final) if isinstance(final, tuple) else (output, final)


def _sizes(
    call: RecurrentCall, module: RecurrentModule, inputs: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    if call.is_cell:
        expected: list[tuple[int, ...]] = [(inputs.shape[0], module.hidden_size)] * len(call.cell.states)
    else:
        if inputs.dim() != _OVER_TIME:
            raise ValueError(f"its input has {inputs.dim()} axes, and must have 3")
        batch, steps = inputs.shape[:2] if call.batch_first else reversed(inputs.shape[:2])
        spec = Spec.from_module(module)  # type: ignore[arg-type]
        expected = list(spec.state_shapes(batch).values())
    if inputs.shape[-1] != module.input_size:
        raise ValueError(f"its input has {inputs.shape[-1]} features, and its weights {module.input_size}")
    if [tuple(state.shape) for state in states] != expected:
        raise ValueError(f"its states have shapes {[tuple(state.shape) for state in states]}, and must have {expected}")
    final = tuple(state.new_empty(state.shape) for state in states)
    if call.is_cell:
        return final
    output = inputs.new_empty((steps, batch, spec.output_size))  # in memory the kernels' is so, too
    return output.transpose(0, 1) if call.batch_first else output, *final


def _cell_of(node: Node) -> tuple[Cell, bool] | None:
    """The cell that a node computes, and whether for one step alone."""
    for pattern, is_cell in ((_IS_CELL, True), (_IS_OVER_TIME, False)):
        if (match := pattern.fullmatch(node.operator)) is not None:
            kind, _, nonlinearity = match[1].partition("_")
            for cell in CELLS:
                if cell.name == kind and (cell.nonlinearity or "") == nonlinearity:
                    return cell, is_cell
    return None


def _parameters(node: Node, *, is_cell: bool) -> tuple[str, ...]:
    given = [node.get(name) for name in _CELL_PARAMETERS] if is_cell else list(node.get("params") or ())
    return tuple(value.name for value in given if isinstance(value, Ref))


def _name(node: Node, parameters: list[Bound], cell: Cell, taken: set[str]) -> str:
    """That of the module in which the parameters lie, else of the module whose forward runs."""
    prefixes = {match[1] or "" if (match := _PARAMETER.match(each.path)) else None for each in parameters}
    prefix = prefixes.pop() if len(prefixes) == 1 else None
    name = node.module if prefix is None else prefix
    name = ".".join(part for part in name.split(".") if part) or cell.name
    others = (f"{name}_{number}" for number in count(2))
    return next(each for each in chain((name,), others) if each not in taken)


def _spec(call: RecurrentCall, values: list[Tensor]) -> Spec:
    node, per_layer = call.node, len(call.parameters)
    layers = 1 if call.is_cell else node.get("num_layers")
    directions = 2 if node.get("bidirectional") else 1
    has_bias = len(values) > 2 if call.is_cell else bool(node.get("has_biases"))  # noqa: PLR2004
    weights = 4 if has_bias else 2
    if isinstance(layers, int) and 0 < layers * directions <= per_layer:
        per_layer, rest = divmod(per_layer, layers * directions)
        is_projected = per_layer == weights + 1 and not call.is_cell
        if not rest and (per_layer == weights or is_projected) and all(value.dim() == _MATRIX for value in values[:2]):
            recurrent = values[weights] if is_projected else values[1]
            if recurrent.dim() == _MATRIX:
                proj_size = recurrent.shape[0] if is_projected else 0
                return Spec(
                    values[0].shape[1],
                    recurrent.shape[1],
                    layers,
                    bias=has_bias,
                    bidirectional=directions > 1,
                    proj_size=proj_size,
                    cell=call.cell,
                )
    raise CheckpointError(
        f"node {quoted(node.name)} ({node.operator}) has {len(values)} weights for {layers} layers, which are not "
        f"those of an nn.{call.cell.module.__name__}"
    )


def _cell_module(spec: Spec) -> RecurrentModule:
    arguments: dict[str, Any] = {"bias": spec.bias}
    if spec.cell.nonlinearity is not None:
        arguments["nonlinearity"] = spec.cell.nonlinearity
    return spec.cell.cell_module(spec.input_size, spec.hidden_size, **arguments)
