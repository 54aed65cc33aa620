"""`read_onnx`: an ONNX file as data, checked, bounded, and whole: what lay in files beside it is inside."""

from __future__ import annotations

import math
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from gatescope.errors import CheckpointError
from gatescope.pipeline.onnx import proto

MOST_BYTES = 2**31 - 2**20
"""Of a file with what lies beside it: a message of protocol buffers is no longer than 2 GiB."""

MOST_NODES = 20_000
MOST_AXES = 8

_DOMAINS = frozenset({"", "ai.onnx"})
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_UNBOUNDED = frozenset({"Loop", "Scan"})
_TEXTS = frozenset({onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED})


def read_onnx(path: Path, most_bytes: int = MOST_BYTES) -> onnx.ModelProto:
    """The model in an ONNX file; tensors that it keeps in other files of its folder are read into it.

    Raises:
        CheckpointError: it cannot be read, is no ONNX model, is larger than `most_bytes`, breaks ONNX's rules, or has
            what is not served: operators of other domains, functions, loops, random numbers.
    """
    content = _content(path, most_bytes)
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError:
        raise CheckpointError(f"{path.name} is no ONNX model, or is damaged or cut off") from None
    if not model.graph.node:
        raise CheckpointError(f"{path.name} is no ONNX model: it has no nodes")
    try:
        _check_nodes(model)
        _inline(model, path.parent, most_bytes - len(content))
        _check_tensors(model)
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise CheckpointError(f"{path.name}: {_line(error)}") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from None
    return model


def _content(path: Path, most_bytes: int) -> bytes:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError(f"{path.name} is no regular file")
            if status.st_size > most_bytes:
                raise CheckpointError(f"{path.name} has {status.st_size} bytes, and at most {most_bytes} are read")
            return file.read(status.st_size)
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror or error}") from None


def _check_nodes(model: onnx.ModelProto) -> None:
    if model.functions:
        raise CheckpointError(
            f"it has functions of its own ('{model.functions[0].name}'): inline them with "
            "onnx.inliner.inline_local_functions"
        )
    nodes = [node for graph in proto.graphs(model.graph) for node in graph.node]
    if len(nodes) > MOST_NODES:
        raise CheckpointError(f"it has {len(nodes)} nodes, more than {MOST_NODES}")
    for node in nodes:
        where = f"the node '{node.name or node.op_type}'"
        if node.domain not in _DOMAINS:
            raise CheckpointError(
                f"{where} is of the domain '{node.domain}': only ONNX's own operators are served; export the model "
                "without custom ones, before it is quantised or optimised for one runtime"
            )
        if node.op_type in _UNBOUNDED:
            raise CheckpointError(f"{where} is a {node.op_type}, which is not served: export the model without loops")
        if node.op_type in _RANDOM or (node.op_type == "Dropout" and _trains(node, model)):
            raise CheckpointError(f"{where} draws random numbers: export the model in evaluation mode")
        if node.op_type == "BatchNormalization" and proto.attributes(node).get("training_mode"):
            raise CheckpointError(f"{where} is in training mode: export the model in evaluation mode")


def _trains(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Whether a dropout may drop: its third input says so, unless that is a constant false."""
    name = node.input[2] if len(node.input) > 2 else ""  # noqa: PLR2004
    if not name:
        return False
    found = [tensor for tensor in model.graph.initializer if tensor.name == name]
    found += [
        attribute.t
        for each in model.graph.node
        if each.op_type == "Constant" and name in each.output
        for attribute in each.attribute
        if attribute.name == "value"
    ]
    return not found or bool(np.any(proto.array(found[0])))


def _inline(model: onnx.ModelProto, folder: Path, most_bytes: int) -> None:
    """Read the tensors that lie in other files of the folder."""
    for tensor in proto.tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        offset, length = _whole(tensor, said, "offset", 0), _whole(tensor, said, "length", _nbytes(tensor))
        most_bytes -= length
        if most_bytes < 0:
            raise CheckpointError(f"it has more than {MOST_BYTES} bytes with the files beside it")
        tensor.raw_data = _beside(tensor, folder, said.get("location", ""), offset, length)
        del tensor.external_data[:]
        tensor.ClearField("data_location")


def _beside(tensor: onnx.TensorProto, folder: Path, location: str, offset: int, length: int) -> bytes:
    name = tensor.name
    try:
        path = (folder / location).resolve()
        if not location or not path.is_relative_to(folder.resolve()):
            raise CheckpointError(f"the tensor '{name}' lies in '{location}', outside the folder of the file")
        if not path.is_file():
            raise CheckpointError(f"the tensor '{name}' lies in '{location}', which is not beside the file")
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(min(length, max(0, path.stat().st_size - offset)))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the tensor '{name}' lies in '{location}', which cannot be read: {error}") from None
    if len(content) < length:
        raise CheckpointError(f"'{location}' is cut off: the tensor '{name}' needs {length} bytes from {offset} on")
    return content


def _whole(tensor: onnx.TensorProto, said: dict[str, str], key: str, default: int) -> int:
    value = said.get(key, str(default))
    if not value.isdecimal() or len(value) > 18:  # noqa: PLR2004 - digits of what 64 bits hold
        raise CheckpointError(f"the {key} of the tensor '{tensor.name}' is {value!r}")
    return int(value)


def _check_tensors(model: onnx.ModelProto) -> None:
    """Hold declared shapes against what is there, before memory is taken for them, and refuse what is not finite."""
    for tensor in proto.tensors(model):
        if not tensor.data_type and not tensor.dims:
            continue  # a field that is not set
        if len(tensor.dims) > MOST_AXES or any(dim < 0 for dim in tensor.dims):
            raise CheckpointError(f"the tensor '{tensor.name}' has the shape {_shown(tensor.dims)}")
        if tensor.data_type in _TEXTS:
            continue
        needed = _nbytes(tensor)
        if tensor.HasField("raw_data") and len(tensor.raw_data) != needed:
            raise CheckpointError(
                f"the tensor '{tensor.name}' has {len(tensor.raw_data)} bytes, but its shape {_shown(tensor.dims)} "
                f"needs {needed}"
            )
        if not tensor.HasField("raw_data") and needed > 16 * tensor.ByteSize():  # no number is packed closer
            raise CheckpointError(f"the tensor '{tensor.name}' has fewer numbers than its shape {_shown(tensor.dims)}")
    unique = Counter(tensor.name for tensor in model.graph.initializer)
    if twice := [name for name, count in unique.items() if count > 1]:
        raise CheckpointError(f"it has the tensor '{twice[0]}' twice")


def _nbytes(tensor: onnx.TensorProto) -> int:
    """Of its numbers, by shape and type."""
    count: int = math.prod(tensor.dims)
    try:
        kind: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError):
        raise CheckpointError(f"the tensor '{tensor.name}' is of no known type ({tensor.data_type})") from None
    halves = tensor.data_type in {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}
    return -(-count // 2) if halves else count * int(kind.itemsize)


def _shown(dims: Iterable[int]) -> str:
    return str(list(dims)[: MOST_AXES + 1])


def _line(error: Exception) -> str:
    """The first line of what the checker says."""
    return str(error).strip().partition("\n")[0][:300]
