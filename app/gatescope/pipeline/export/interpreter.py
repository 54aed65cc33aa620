"""`Interpreter`: runs the nodes of a graph one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gatescope.errors import CheckpointError, InvalidInput, ModuleFailed
from gatescope.names import listed, printable, quoted
from gatescope.pipeline.export.graph import Graph, Node, Ref, Size, Value
from gatescope.pipeline.export.operators import (
    Function,
    function_of,
    has_device,
    misuse_of,
    refusal_of,
    reshape,
    view_of_meta,
    written_by,
)

MOST_ELEMENTS = 2**28
"""Of one result: 1 GiB of float32."""
MOST_LIVE_ELEMENTS = 2**30
"""Of all results that are still to be read."""

Values = dict[str, Any]
"""Tensors and numbers by their names in the graph."""


@dataclass(frozen=True)
class Context:
    """Where and over how much a graph is run."""

    batch: int
    steps: int
    device: torch.device
    protected: Mapping[int, Tensor] = field(default_factory=dict)  # by `storage_of`: what nothing may change
    is_bounded: bool = False  # count the elements of the results; on the meta device, where they take no memory
    live: list[int] = field(default_factory=lambda: [0])


class NodeFailed(Exception):
    """A node cannot be computed."""

    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(f"node {quoted(node.name)} ({node.operator}) {reason}")
        self.node, self.reason = node, reason


class Step:
    """One node, ready to run.

    Args:
        node: what is run.
        function: what runs for it.
        last_reads: names that no later node reads.
    """

    def __init__(self, node: Node, function: Function, last_reads: Sequence[str]) -> None:
        self.node, self._function, self._last_reads = node, function, tuple(last_reads)
        self._has_device, self._written = has_device(node), written_by(node)

    def run(self, values: Values, context: Context, node: Node | None = None) -> None:
        """Compute the node's outputs into `values`, and drop what nothing reads any more.

        Args:
            values: by name.
            context: where it is run.
            node: the same node with other sizes; None for its own.

        Raises:
            NodeFailed: it cannot be computed.
        """
        arguments = {name: _resolved(value, values, context) for name, value in (node or self.node).arguments}
        if self._has_device:
            arguments["device"] = context.device
        self._check_written(arguments, context)
        try:
            made = self._function(arguments)
        except InvalidInput:  # what replaces a recurrent module does not fit the request
            raise
        except Exception as error:
            message = str(error).strip().partition("\n")[0]
            raise NodeFailed(self.node, f"fails: {printable(message or type(error).__name__)}") from error
        self._store(made, values, context)
        for name in self._last_reads:
            dropped = values.pop(name, None)
            if context.is_bounded and isinstance(dropped, Tensor):
                context.live[0] -= dropped.numel()

    def _check_written(self, arguments: Mapping[str, Any], context: Context) -> None:
        for name in self._written:
            if isinstance(value := arguments[name], Tensor) and storage_of(value) in context.protected:
                raise NodeFailed(self.node, "changes an input or a weight in place, which is not served")

    def _store(self, made: Any, values: Values, context: Context) -> None:
        outputs = self.node.outputs
        if len(outputs) == 1 and isinstance(outputs[0], tuple):  # a list of tensors
            outputs, made = outputs[0], tuple(made)
        results = tuple(made) if isinstance(made, tuple | list) else (made,)
        if len(results) != len(outputs) and outputs:
            raise NodeFailed(self.node, f"gives {len(results)} values, and the graph names {len(outputs)}")
        for name, value in zip(outputs, results, strict=False):
            if isinstance(name, str):
                values[name] = value
                if context.is_bounded and isinstance(value, Tensor):
                    self._count(value, context)

    def _count(self, value: Tensor, context: Context) -> None:
        context.live[0] += value.numel()
        if value.numel() > MOST_ELEMENTS or context.live[0] > MOST_LIVE_ELEMENTS:
            raise NodeFailed(
                self.node,
                f"gives {value.numel()} numbers over {context.batch} × {context.steps} steps, with which the graph "
                f"holds {context.live[0]}; at most {MOST_ELEMENTS} and {MOST_LIVE_ELEMENTS} are computed",
            )


class Interpreter:
    """A graph whose operators all may run.

    Args:
        graph: what is run.
        special: what runs for nodes that are no plain functions, by their names.
        has_views: whether shapes are found out with views that are views; then fewer readings of sizes fit.

    Raises:
        CheckpointError: there are operators that may not run; all of them are named.
    """

    def __init__(self, graph: Graph, special: Mapping[str, Function], *, has_views: bool = True) -> None:
        self.graph, self.has_views = graph, has_views
        self.is_functional = not any(written_by(node) for node in graph.nodes)
        functions = {node.name: special.get(node.name) or self._function(node) for node in graph.nodes}
        unknown = dict.fromkeys(node.operator for node in graph.nodes if functions[node.name] is None)
        if unknown:
            raise CheckpointError(f"its graph calls operators that are not served: {listed(list(unknown))}")
        for node in graph.nodes:
            if (refusal := misuse_of(node) or refusal_of(node)) is not None:
                raise CheckpointError(f"node {quoted(node.name)} ({node.operator}) {refusal}")
        last = _last_reads(graph)
        self.steps = [
            Step(node, function, last.get(index, ()))
            for index, node in enumerate(graph.nodes)
            if (function := functions[node.name]) is not None
        ]

    def _function(self, node: Node) -> Function | None:
        """What runs for a node. A view may be a copy where nothing is changed in place.

        Decompositions count on how a kernel lays its result out in memory, which another version does otherwise.
        """
        if not self.is_functional or node.operator != "aten.view.default":
            return function_of(node)
        return view_of_meta if self.has_views else reshape

    def run(self, values: Values, context: Context) -> tuple[Tensor | None, ...]:
        """What the graph returns.

        Args:
            values: the inputs and the tensors of the file, by name; used up.
            context: where it is run.

        Raises:
            NodeFailed: a node cannot be computed.
        """
        if context.is_bounded:
            context.live[0] = sum(value.numel() for value in values.values() if isinstance(value, Tensor))
        for step in self.steps:
            step.run(values, context)
        return tuple(None if output is None else values[output.name] for output in self.graph.outputs)


def run(call: Callable[[], Any]) -> Any:
    """The same, with a node that fails told as a module that does.

    Raises:
        ModuleFailed: a node cannot be computed.
    """
    try:
        return call()
    except NodeFailed as error:
        raise ModuleFailed(f"the exported graph cannot be run: {error}") from error


def storage_of(value: Tensor) -> int:
    """What tells the memory of a tensor from that of others, as long as both are there."""
    return int(value.untyped_storage()._cdata)  # noqa: SLF001 - its address is 0 on the meta device


def _resolved(value: Value, values: Values, context: Context) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, Size):
        return value.at(context.batch, context.steps)
    if isinstance(value, tuple):
        return [_resolved(item, values, context) for item in value]
    return value


def _last_reads(graph: Graph) -> dict[int, list[str]]:
    """The names that each node is the last to read, or computes for nobody."""
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        last.update(dict.fromkeys((*node.writes(), *node.reads()), index))
    for output in graph.outputs:
        if output is not None:
            last.pop(output.name, None)
    dropped: dict[int, list[str]] = {}
    for name, index in last.items():
        dropped.setdefault(index, []).append(name)
    return dropped
