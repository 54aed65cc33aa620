"""`OnnxGraph`: an ONNX model with its recurrent nodes found, and what each of them reads and gives made an output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from gatescope.errors import CheckpointError
from gatescope.pipeline.onnx import proto
from gatescope.pipeline.onnx.ancestry import Ancestry
from gatescope.pipeline.onnx.recurrent import TYPES, RecurrentNode, Untraceable, recurrent_node
from gatescope.pipeline.onnx.session import RUN_ERRORS, said, session

_WATCHED = ("X", "sequence_lens", "initial_h", "initial_c")


@dataclass(frozen=True)
class OnnxGraph:
    """A checked model; its graph gives the inputs and outputs of its recurrent nodes beside its own outputs."""

    model: onnx.ModelProto
    ancestry: Ancestry
    nodes: dict[str, RecurrentNode]
    """Those that can be traced, by name, in the order in which they run."""
    untraceable: dict[str, str]
    """The reasons of the others, by name."""
    outputs: tuple[str, ...]
    """The graph's own."""

    @classmethod
    def of(cls, model: onnx.ModelProto) -> OnnxGraph:
        """The graph of a model that `read_onnx` gave; the model is changed.

        Raises:
            CheckpointError: it has no recurrent node, or none that can be traced.
        """
        ancestry, outputs = Ancestry(model.graph), tuple(value.name for value in model.graph.output)
        found = [node for node in model.graph.node if node.op_type in TYPES]
        if not found:
            raise CheckpointError(
                "it has no LSTM, GRU or RNN node to look into: a loop of cells is exported as single operators; "
                "train with nn.LSTM, nn.GRU or nn.RNN, or serve the PyTorch module itself"
            )
        nodes: dict[str, RecurrentNode] = {}
        untraceable: dict[str, str] = {}
        for name, node in zip(_names(found), found, strict=True):
            _name_outputs(node, name)
            try:
                nodes[name] = recurrent_node(node, name, lambda value: _constant(model, ancestry, value))
            except Untraceable as error:
                untraceable[name] = str(error)
        if not nodes:
            name, reason = next(iter(untraceable.items()))
            raise CheckpointError(f"none of its recurrent nodes can be looked into: of '{name}', {reason}")
        _add_outputs(model.graph, [value for node in nodes.values() for value in _watched(node, ancestry)])
        return cls(model, ancestry, nodes, untraceable, outputs)

    def without(self, types: Mapping[str, int], outputs: Sequence[str]) -> onnx.ModelProto:
        """The model without the node that makes certain values; these are inputs instead.

        Args:
            types: of the values, as ONNX counts them, by name.
            outputs: that the model is to have.
        """
        made = onnx.ModelProto()
        made.CopyFrom(self.model)
        graph = made.graph
        kept = [each for each in graph.node if not types.keys() & set(each.output)]
        del graph.node[:], graph.output[:]
        graph.node.extend(kept)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        graph.input.extend(onnx.helper.make_tensor_value_info(name, each, None) for name, each in types.items())
        described = [each for each in graph.value_info if each.name not in types]
        del graph.value_info[:]
        graph.value_info.extend(described)
        return made


def _names(nodes: list[onnx.NodeProto]) -> list[str]:
    """What the nodes are called, each once: `encoder.lstm` of '/encoder/lstm/LSTM', or the type with a number."""
    made = []
    for node in nodes:
        path = node.name.strip("/").split("/")
        if len(path) > 1 and path[-1].partition("_")[0] == node.op_type:
            path, number = path[:-1], path[-1].partition("_")[2]
            made.append(".".join(path) + (f".{number}" if number else ""))
        else:
            made.append(".".join(path) if path[0].isprintable() and path[0] else node.op_type.lower())
    counts, given = Counter(made), Counter[str]()
    unique = []
    for name in made:
        given[name] += 1
        unique.append(name if counts[name] == 1 else f"{name}.{given[name] - 1}")
    return unique


def _name_outputs(node: onnx.NodeProto, name: str) -> None:
    """Give a name to each output that the node leaves out."""
    count = 3 if node.op_type == "LSTM" else 2
    node.output.extend([""] * (count - len(node.output)))
    for index in range(count):
        node.output[index] = node.output[index] or f"gatescope:{name}:{index}"


def _watched(node: RecurrentNode, ancestry: Ancestry) -> list[str]:
    """The values that show what the node reads and gives, without the graph's inputs and constants."""
    names = [node.inputs[each] for each in _WATCHED if each in node.inputs]
    computed = [name for name in names if name in ancestry.producers]
    return [*computed, *node.outputs.values()]


def _add_outputs(graph: onnx.GraphProto, names: list[str]) -> None:
    there = {value.name for value in graph.output}
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in there)


def _constant(model: onnx.ModelProto, ancestry: Ancestry, name: str) -> np.ndarray | None:
    """The numbers of a value that no input changes, computed where they are computed; None of one that inputs change.

    Raises:
        CheckpointError: they cannot be computed.
    """
    if name in ancestry.constants:
        return proto.array(ancestry.constants[name])
    if not ancestry.is_constant(name):
        return None
    nodes = ancestry.nodes(name)
    read = {each for node in nodes for each in node.input}
    graph = onnx.GraphProto(name="constant", node=nodes, output=[onnx.ValueInfoProto(name=name)])
    graph.initializer.extend(tensor for key, tensor in ancestry.constants.items() if key in read)
    alone = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)
    try:
        made: np.ndarray = session(alone).run([name], {})[0]
    except RUN_ERRORS as error:
        raise CheckpointError(f"the constant '{name}' cannot be computed: {said(error)}") from None
    return made
