"""`Exported`: the graph of an archive, ready to run over any batch and number of steps that it can take."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from gatescope.errors import CheckpointError
from gatescope.pipeline.export.archive import Archive
from gatescope.pipeline.export.graph import Graph, Node
from gatescope.pipeline.export.inputs import Input, inputs_of
from gatescope.pipeline.export.interpreter import Context, Interpreter, NodeFailed, Values, storage_of
from gatescope.pipeline.export.recurrent import as_call, build, called, module_value, recurrent_calls

_FLOATS = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
_META = torch.device("meta")
_MAKING_FLOATS = frozenset(
    {
        *("aten.zeros.default", "aten.ones.default", "aten.eye.default", "aten.eye.m", "aten.linspace.default"),
        "aten.scalar_tensor.default",
    }
)
"""Operators that make float32 where they are told no type."""


class Exported:
    """A graph, the tensors that it reads and the recurrent modules that it calls.

    Args:
        archive: as read.

    Raises:
        CheckpointError: it calls what may not run, has no recurrent node, or takes what is no sequence.
    """

    def __init__(self, archive: Archive) -> None:
        self.inputs, self._has_views = inputs_of(archive.graph), True
        self._calls = recurrent_calls(archive.graph)
        self.modules: dict[str, nn.Module] = {call.name: build(call, archive.tensors) for call in self._calls.values()}
        nodes = tuple(
            as_call(self._calls[node.name]) if node.name in self._calls else node for node in archive.graph.nodes
        )
        self.interpreter = self._interpreter(_served_types(replace(archive.graph, nodes=nodes)))
        read = {name for node in nodes for name in node.reads()}
        read |= {output.name for output in archive.graph.outputs if output is not None}
        self.tensors = {name: value for name, value in archive.tensors.items() if name in read}
        lifted = {each.name for each in archive.graph.bound if each.is_lifted}
        self.lifted = {name: value for name, value in self.tensors.items() if name in lifted}
        self._meta = {name: value.to("meta") for name, value in self.tensors.items()}

    @property
    def graph(self) -> Graph:
        """What is run."""
        return self.interpreter.graph

    @property
    def sequence(self) -> Input:
        """The input that has the steps."""
        return next(each for each in self.inputs if each.role == "sequence")

    def change(self, nodes: Mapping[int, Node]) -> None:
        """Run these nodes in place of those at their places."""
        changed = tuple(nodes.get(index, node) for index, node in enumerate(self.graph.nodes))
        self.interpreter = self._interpreter(replace(self.graph, nodes=changed))

    def values(
        self, inputs: Mapping[str, Tensor], tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module]
    ) -> Values:
        """What a run begins with: the inputs, the tensors of the file and the modules, by name."""
        return {**tensors, **inputs, **{module_value(name): module for name, module in modules.items()}}

    def meta_values(self, batch: int, steps: int) -> Values:
        """The same without numbers, for a run that finds out shapes."""
        inputs = {
            each.name: torch.empty(each.sized(batch, steps), dtype=each.dtype, device=_META) for each in self.inputs
        }
        return self.values(inputs, self._meta, self.modules)

    def meta_context(self, batch: int, steps: int, values: Values, *, is_bounded: bool = False) -> Context:
        """Where such a run takes place; what it begins with may not be changed in it."""
        return Context(batch, steps, _META, protected_storages(values), is_bounded)

    def check_memory(self, batch: int, steps: int) -> None:
        """Refuse sizes over which a result would have more elements than are computed.

        Raises:
            NodeFailed: of the node that gives so many.
        """
        values = self.meta_values(batch, steps)
        self.interpreter.run(values, self.meta_context(batch, steps, values, is_bounded=True))

    def shapes(self, batch: int, steps: int) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor in a run over these sizes, by name.

        Raises:
            NodeFailed: a node cannot be run over them.
        """
        values = self.meta_values(batch, steps)
        context = self.meta_context(batch, steps, values)
        found = {name: tuple(value.shape) for name, value in values.items() if isinstance(value, Tensor)}
        for step in self.interpreter.steps:
            step.run(values, context)
            for name in step.node.writes():
                if isinstance(value := values.get(name), Tensor):
                    found[name] = tuple(value.shape)
        return found

    def run_wide(self, inputs: Mapping[str, Tensor], batch: int, steps: int) -> tuple[Tensor | None, ...]:
        """What the graph returns for these inputs, computed in float64.

        Raises:
            NodeFailed: a node cannot be run over them.
        """
        tensors = {name: value.double() if value.is_floating_point() else value for name, value in self.tensors.items()}
        modules = {name: deepcopy(module).double() for name, module in self.modules.items()}
        values = self.values(inputs, tensors, modules)
        graph = _with_types(_with_stated_types(self.graph), {torch.float32: torch.float64})
        interpreter = self._interpreter(graph)
        with torch.no_grad():
            return interpreter.run(values, Context(batch, steps, torch.device("cpu"), protected_storages(values)))

    def check_sample(self) -> None:
        """Run it over the sizes of the sample, and hold each shape against the one that the file states.

        Raises:
            CheckpointError: a node cannot be run, or gives another shape.
        """
        batch, steps = self.sequence.shape[:2]
        try:
            found = self._shapes_of_sample(batch, steps)
            self.check_memory(batch, steps)
        except NodeFailed as error:
            message = f"its graph cannot be run over its own sample of {batch} × {steps}: {error}"
            raise CheckpointError(message) from error
        for name, meta in self.graph.metas.items():
            stated = [dimension.size for dimension in meta.shape]
            shape = list(found.get(name, stated))
            is_same = len(shape) == len(stated) and all(
                dimension.size == size or (dimension.symbol is not None and not dimension.size)  # which has no hint
                for dimension, size in zip(meta.shape, shape, strict=True)
            )
            if not is_same:
                raise CheckpointError(f"it states that '{name}' has shape {stated}, but its graph gives {shape}")

    def _shapes_of_sample(self, batch: int, steps: int) -> dict[str, tuple[int, ...]]:
        """The shapes; where a view can be none, from now on copies serve as views."""
        try:
            return self.shapes(batch, steps)
        except NodeFailed:
            self._has_views = False
            self.interpreter = self._interpreter(self.graph)
            return self.shapes(batch, steps)

    def _interpreter(self, graph: Graph) -> Interpreter:
        special = {name: partial(called, call) for name, call in self._calls.items()}
        return Interpreter(graph, special, has_views=self._has_views)


def protected_storages(values: Values) -> dict[int, Tensor]:
    """The tensors among these values, whose memory nothing may change, by that memory; they keep it from others."""
    return {storage_of(value): value for value in values.values() if isinstance(value, Tensor)}


def _served_types(graph: Graph) -> Graph:
    """The same graph computing in float32 where it would in half precision, or where the module was one of doubles."""
    types = dict(_FLOATS)
    given = {each.name for each in graph.bound if not each.is_lifted} | set(graph.inputs)
    if any(graph.metas[name].dtype == torch.float64 for name in given if name in graph.metas):
        types[torch.float64] = torch.float32
    return _with_types(graph, types)


def _with_stated_types(graph: Graph) -> Graph:
    """The same graph with the type stated wherever float32 is made because none is."""
    nodes = []
    for node in graph.nodes:
        is_float = node.operator in _MAKING_FLOATS
        is_float |= node.operator == "aten.full.default" and isinstance(node.get("fill_value"), float)
        arguments = tuple(each for each in node.arguments if each != ("dtype", None))
        if is_float and node.get("dtype") is None:
            node = replace(node, arguments=(*arguments, ("dtype", torch.float32)))  # noqa: PLW2901 - the same node
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _with_types(graph: Graph, types: Mapping[torch.dtype, torch.dtype]) -> Graph:
    """The same graph with other types among its arguments."""
    changed = tuple(
        node.replaced(lambda _, __, value: types.get(value, value) if isinstance(value, torch.dtype) else value)
        for node in graph.nodes
    )
    return replace(graph, nodes=changed)
