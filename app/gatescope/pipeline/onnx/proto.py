"""What ONNX's protocol buffers hold: types, shapes, attributes and constants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Attributes = dict[str, Any]

FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16})
INTEGERS = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32})


def attributes(node: onnx.NodeProto) -> Attributes:
    """A node's attributes by name, texts as `str`."""
    return {each.name: _plain(onnx.helper.get_attribute_value(each)) for each in node.attribute}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def element_type(value: onnx.ValueInfoProto) -> int:
    """Of a tensor, as `TensorProto` numbers it; 0 of anything else."""
    return int(value.type.tensor_type.elem_type)


def dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """Of a tensor, as NumPy has it."""
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element_type(value)))


def dims(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """How long each axis of a tensor is, None where that is open; None without a shape."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return [int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim]


def array(tensor: onnx.TensorProto) -> np.ndarray:
    """The numbers of a constant."""
    return numpy_helper.to_array(tensor)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its nodes, the outer ones first."""
    pending = [graph]
    while pending:
        each = pending.pop()
        yield each
        for node in each.node:
            for attribute in node.attribute:
                pending.extend([attribute.g] if attribute.HasField("g") else [])
                pending.extend(attribute.graphs)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a model."""
    for graph in graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
