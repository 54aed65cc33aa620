"""`describe`: what the inputs and outputs of a graph are, as far as it shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import onnx

from gatescope.errors import CheckpointError
from gatescope.pipeline.onnx import proto
from gatescope.pipeline.onnx.graph import OnnxGraph
from gatescope.pipeline.program.graph_file import Described
from gatescope.spec import Spec

_PROBABILITIES = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_FEATURES, _IDS = 3, 2  # axes


def describe(graph: OnnxGraph) -> Described:
    """Tell sequences, lengths and states apart by type, axes, and which nodes read them.

    Raises:
        CheckpointError: an input is none of these, or none of them is the sequences.
    """
    lengths, states = _lengths(graph), _initial(graph)
    rest = {name: value for name, value in graph.ancestry.inputs.items() if name not in {lengths, *states}}
    name, reads_tokens = _sequences(rest)
    finals = _final(graph, states)
    outputs = [value for value in graph.model.graph.output if value.name in graph.outputs]
    predicted = [value.name for value in outputs if value.name not in finals and _is_prediction(value)]
    prediction = next(iter(predicted), None)
    function = _function(graph, prediction)
    config: dict[str, Any] = {"format": "onnx", "input": name}
    config |= {"sequence_lengths": lengths} if lengths else {}
    config |= {"initial_state": states} if states else {}
    config |= {"prediction": prediction} if prediction else {}
    config |= {"is_probability": True} if function else {}
    config |= {"final_state": finals} if finals else {}
    width = _tokens(graph, name) if reads_tokens else (proto.dims(rest[name]) or [None])[-1]
    return Described(
        config,
        width or 0,
        reads_tokens,
        function,
        specs={name: Spec.from_module(node.module) for name, node in graph.nodes.items()},
        parameters=sum(math.prod(each.dims) for each in graph.ancestry.constants.values()),
        left_out=tuple(each for each in graph.outputs if each not in {prediction, *finals}),
        notes=tuple(_notes(graph)),
    )


def _notes(graph: OnnxGraph) -> Iterator[str]:
    for name, reason in graph.untraceable.items():
        yield f"'{name}' is computed, but cannot be looked into: {reason}."
    for name, node in graph.nodes.items():
        if node.is_reverse:
            yield f"'{name}' reads from the end: its steps stand in that order."


def _lengths(graph: OnnxGraph) -> str | None:
    """The input of whole numbers, one for each sequence, that nodes are told as lengths."""
    for node in graph.nodes.values():
        key = node.inputs.get("sequence_lens")
        if key is not None and len(read := graph.ancestry.inputs_of(key)) == 1:
            return next(iter(read))
    return None


def _initial(graph: OnnxGraph) -> list[str]:
    """The inputs that nodes begin with: that of hidden states, then that of cell states.

    Raises:
        CheckpointError: there are several of one kind.
    """
    found: dict[str, list[str]] = {"initial_h": [], "initial_c": []}
    for node in graph.nodes.values():
        read = graph.ancestry.inputs_of(node.inputs.get("X", ""))
        for state, names in found.items():
            given = graph.ancestry.inputs_of(node.inputs.get(state, "")) - read
            names.extend(sorted(given - set(names)))
    for state, names in found.items():
        if len(names) > 1:
            raise CheckpointError(
                f"its nodes begin with several inputs of one kind ({state}: {', '.join(names)}): "
                "let the model take one tensor of all layers, as nn.LSTM does"
            )
    return [names[0] for names in found.values() if names]


def _sequences(rest: dict[str, onnx.ValueInfoProto]) -> tuple[str, bool]:
    """The input that takes the sequences, and whether these are token ids."""
    shown = ", ".join(f"'{name}' {proto.dims(value)}" for name, value in rest.items()) or "none"
    if len(rest) != 1:
        raise CheckpointError(
            f"beside lengths and states it must have one input, the sequences; it has {shown}: export the model with "
            "the others fixed, or put into the sequences"
        )
    name, value = next(iter(rest.items()))
    kind, sizes = proto.element_type(value), proto.dims(value)
    if kind in proto.FLOATS and sizes is not None and len(sizes) == _FEATURES and sizes[-1]:
        return name, False
    if kind in proto.INTEGERS and sizes is not None and len(sizes) == _IDS:
        return name, True
    raise CheckpointError(
        f"its input {shown} must be floating-point numbers with the axes batch, time and feature, the last of a known "
        "size, or token ids with the axes batch and time"
    )


def _final(graph: OnnxGraph, states: list[str]) -> list[str]:
    """The outputs that are the last states of nodes and nothing else, in the order of the states; all or none."""
    numbers = {id(node): node for node in graph.model.graph.node}
    found: list[str] = []
    for number in range(1, len(states) + 1):
        for name in graph.outputs:
            sources = graph.ancestry.sources(name)
            is_state = all(key in numbers and numbers[key].op_type in {"LSTM", "GRU", "RNN"} for key, _ in sources)
            if is_state and {index for _, index in sources} == {number}:
                found.append(name)
                break
    return found if len(found) == len(states) else []


def _is_prediction(value: onnx.ValueInfoProto) -> bool:
    sizes = proto.dims(value)
    return proto.element_type(value) in proto.FLOATS and (sizes is None or len(sizes) in {_IDS, _FEATURES})


def _function(graph: OnnxGraph, prediction: str | None) -> str | None:
    """The function behind which nothing is computed any more."""
    if prediction is None:
        return None
    sources = graph.ancestry.sources(prediction)
    made = {id(node): node.op_type for node in graph.model.graph.node}
    kinds = {made.get(key) for key, _ in sources}
    return _PROBABILITIES.get(str(kinds.pop())) if len(kinds) == 1 else None


def _tokens(graph: OnnxGraph, name: str) -> int | None:
    """How many tokens there are: the rows of the table that the ids look up."""
    for node in graph.model.graph.node:
        if node.op_type != "Gather" or node.input[0] not in graph.ancestry.constants:
            continue
        if graph.ancestry.inputs_of(node.input[1]) == {name}:
            return int(graph.ancestry.constants[node.input[0]].dims[0])
    return None
