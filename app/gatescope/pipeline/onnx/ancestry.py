"""`Ancestry`: which inputs and nodes a value of a graph comes from."""

from __future__ import annotations

from functools import cached_property

import onnx

_OF_SHAPES = frozenset({"Shape", "Size"})
"""Operators that read no value, only how large it is."""

_MOVING = frozenset(
    {"Cast", "Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that compute nothing: they move numbers, those of their first input or, of a Concat, of all."""


class Ancestry:
    """Where the values of a graph come from.

    Args:
        graph: checked, so its nodes stand in the order in which they can run.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}

    @cached_property
    def inputs(self) -> dict[str, onnx.ValueInfoProto]:
        """The graph's inputs that are no constants, by name."""
        return {value.name: value for value in self._graph.input if value.name not in self.constants}

    def nodes(self, name: str) -> list[onnx.NodeProto]:
        """Every node that a value is computed by, in the graph's order."""
        found: set[int] = set()
        pending = [name]
        while pending:
            node = self.producers.get(pending.pop())
            if node is not None and id(node) not in found:
                found.add(id(node))
                pending += _read(node)
        return [node for node in self._graph.node if id(node) in found]

    def is_constant(self, name: str) -> bool:
        """Whether no input of the graph changes a value."""
        if name in self.constants:
            return True
        if name not in self.producers:
            return False
        return not any(self.inputs.keys() & set(_read(node)) for node in self.nodes(name))

    def inputs_of(self, name: str) -> set[str]:
        """The graph's inputs whose values, not their sizes alone, a value is computed from."""
        seen: set[str] = set()
        pending = [name]
        while pending:
            each = pending.pop()
            if each in seen:
                continue
            seen.add(each)
            node = self.producers.get(each)
            if node is not None and node.op_type not in _OF_SHAPES:
                pending += _read(node)
        return seen & self.inputs.keys()

    def sources(self, name: str) -> set[tuple[int, int]]:
        """Of a value that is moved and not computed: (id of node, number of its output) of what it was before."""
        found: set[tuple[int, int]] = set()
        pending = [name]
        while pending:
            each = pending.pop()
            node = self.producers.get(each)
            if node is None:
                found.add((0, 0))
            elif node.op_type in _MOVING:
                pending += list(node.input) if node.op_type == "Concat" else [node.input[0]]
            else:
                found.add((id(node), list(node.output).index(each)))
        return found


def _read(node: onnx.NodeProto) -> list[str]:
    """What a node reads, the graphs inside it included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for inner in graph.node:
                names += _read(inner)
            names += [value.name for value in graph.output]
    return names
