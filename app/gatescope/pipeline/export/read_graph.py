"""`read_graph`: the JSON of an exported program, checked piece by piece, as a `Graph`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gatescope.errors import CheckpointError
from gatescope.names import printable, quoted
from gatescope.pipeline.export.graph import Bound, Dimension, Graph, Meta, Node, Range, Ref, Value
from gatescope.pipeline.export.output_names import output_names

MOST_NODES = 20_000
MOST_BRACKETS = 4_000_000
MOST_DIMENSIONS = 16
LONGEST_NAME = 500

SCHEMA_MAJOR = 8
OPSET = 10
"""The newest version of the ATen operators that is known here."""

AGAIN = "export and save it again with a PyTorch from 2.8 on"

DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
MEMORY_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
STRIDED = 7
INFINITIES = {"Infinity": float("inf"), "-Infinity": float("-inf")}

_LEFT_OUT = object()
_NO_TENSORS = ("token", "custom_obj")
_MUTATIONS = {
    "loss_output": "returns a loss",
    "buffer_mutation": "changes a buffer",
    "parameter_mutation": "changes a parameter",
    "gradient_to_parameter": "returns gradients",
    "gradient_to_user_input": "returns gradients",
    "user_input_mutation": "changes its input",
    "token": "has side effects",
}


def read_graph(raw: bytes) -> Graph:
    """The graph in the JSON text of an exported program.

    Raises:
        CheckpointError: it is no such text, is larger than the bounds, is of another version, changes what it is
            given, or names a value before it is computed.
    """
    program = _object(parsed(raw), "the program")
    _check_versions(program)
    module = _object(program.get("graph_module"), "its graph_module")
    graph, signature = _object(module.get("graph"), "its graph"), _object(module.get("signature"), "its signature")
    nodes = _list(graph.get("nodes"), "its nodes")
    if len(nodes) > MOST_NODES:
        raise CheckpointError(f"its graph has {len(nodes)} nodes, and at most {MOST_NODES} are run")
    bound, inputs = _inputs(_list(signature.get("input_specs"), "its inputs"))
    outputs = _outputs(_list(signature.get("output_specs"), "its outputs"))
    values = _object(graph.get("tensor_values"), "its tensor_values")
    made = Graph(
        tuple(_node(node, index) for index, node in enumerate(nodes)),
        tuple(bound),
        tuple(inputs),
        tuple(outputs),
        output_names(module, len(outputs)),
        {name: tensor_meta(meta, name) for name, meta in values.items()},
        _ranges(_object(program.get("range_constraints", {}), "its range_constraints")),
    )
    _check_order(made)
    return made


def parsed(raw: bytes) -> Any:
    """The JSON value in these bytes.

    Raises:
        CheckpointError: there is none, or it is nested or large beyond the bounds.
    """
    if raw.count(b"[") + raw.count(b"{") > MOST_BRACKETS:
        raise CheckpointError(f"its JSON has more than {MOST_BRACKETS} lists and objects")
    try:
        return json.loads(raw)
    except RecursionError:
        raise CheckpointError("its JSON is nested too deep") from None
    except ValueError:  # also of text that is no UTF-8
        raise CheckpointError("its JSON is damaged; copy or save the file again") from None


def tensor_meta(given: Any, name: str) -> Meta:
    """What the file says of the tensor of this name: its type and shape.

    Raises:
        CheckpointError: the type is not served, or these are no sizes.
    """
    meta = _object(given, f"the tensor {quoted(name)}")
    dtype, layout = DTYPES.get(_int(meta.get("dtype"), name)), meta.get("layout", STRIDED)
    if dtype is None or layout != STRIDED:
        raise CheckpointError(
            f"the tensor {quoted(name)} is of a type that is not served; dense float, integer and bool tensors are"
        )
    sizes = _list(meta.get("sizes"), name)
    if len(sizes) > MOST_DIMENSIONS:
        raise CheckpointError(f"the tensor {quoted(name)} has {len(sizes)} axes, more than {MOST_DIMENSIONS}")
    return Meta(dtype, tuple(_dimension(size, name) for size in sizes))


def _check_versions(program: Mapping[str, Any]) -> None:
    schema = _object(program.get("schema_version"), "its schema_version")
    if schema.get("major") != SCHEMA_MAJOR:
        major = printable(str(schema.get("major")))
        raise CheckpointError(f"its schema has version {major}, and only {SCHEMA_MAJOR} is read: {AGAIN}")
    opsets = _object(program.get("opset_version", {}), "its opset_version")
    if _int(opsets.get("aten", OPSET), "aten") > OPSET:
        raise CheckpointError(f"its operators have version {opsets['aten']}, and at most {OPSET} is known here")


def _inputs(specs: list[Any]) -> tuple[list[Bound], list[str]]:
    bound, given = [], []
    for spec in specs:
        kind, content = _union_of_object(spec, "an input")
        if kind in _NO_TENSORS:
            raise CheckpointError(f"it is given a {kind}, which is an object of code and not read")
        if kind == "constant_input":
            continue  # the graph holds its value
        argument = content.get("arg")
        if kind == "user_input":
            name, value = _union(argument, "an input")
            if name != "as_tensor":
                raise CheckpointError(f"one of its inputs is no tensor but {quoted(name)}; export it as a constant")
            given.append(_tensor(value, kind).name)
        else:
            path = content.get("parameter_name") or content.get("buffer_name") or content.get("tensor_constant_name")
            is_constant = kind == "tensor_constant" or (kind == "buffer" and content.get("persistent") is False)
            name = _tensor(argument, kind).name
            bound.append(Bound(name, _name(path), is_constant, kind == "tensor_constant"))
    return bound, given


def _outputs(specs: list[Any]) -> list[Ref | None]:
    returned: list[Ref | None] = []
    for spec in specs:
        kind, content = _union_of_object(spec, "an output")
        if kind != "user_output":
            does = _MUTATIONS.get(kind, f"gives a {quoted(kind)}")
            raise CheckpointError(
                f"its forward {does}, and only what computes and returns is served: export the module in evaluation "
                "mode, and let its forward keep nothing"
            )
        name, value = _union(content.get("arg"), "an output")
        returned.append(_tensor(value, kind) if name == "as_tensor" else None)
    return returned


def _node(given: Any, index: int) -> Node:
    node = _object(given, f"node {index}")
    target = _name(node.get("target"))
    outputs = tuple(_output(output, target) for output in _list(node.get("outputs"), target))
    written = [name for output in outputs for name in (output if isinstance(output, tuple) else (output,)) if name]
    name = _name(node.get("name") or (written[0] if written else f"node {index}"))
    arguments = []
    for argument in _list(node.get("inputs"), name):
        entry = _object(argument, name)
        value = _argument(entry.get("arg"), name)
        if value is not _LEFT_OUT:
            arguments.append((_text(entry.get("name")), value))
    metadata = _object(node.get("metadata", {}), name)
    return Node(name, target, tuple(arguments), outputs, _module(metadata.get("nn_module_stack")))


def _module(stack: Any) -> str:
    """The path of the innermost module of a stack `id,path,class;id,path,class`; "" is the whole."""
    parts = stack.rpartition(";")[2].split(",") if isinstance(stack, str) else []
    return parts[1][:LONGEST_NAME] if len(parts) > 2 else ""  # noqa: PLR2004


def _output(given: Any, where: str) -> str | tuple[str | None, ...] | None:
    kind, value = _union(given, where)
    if kind == "as_tensor":
        return _tensor(value, where).name
    if kind in {"as_sym_int", "as_sym_bool", "as_sym_float"}:
        return _name(_object(value, where).get("as_name"))
    if kind == "as_tensors":
        return tuple(_tensor(item, where).name for item in _list(value, where))
    if kind in {"as_optional_tensor", "as_optional_tensors"}:
        values = _list(value, where) if kind.endswith("s") else [value]
        names = tuple(None if name is None else name.name for name in (_optional(item, where) for item in values))
        return names if kind.endswith("s") else names[0]
    if kind == "as_none":
        return None
    raise CheckpointError(f"node {quoted(where)} gives {quoted(kind)}, which is not served")


def _argument(given: Any, where: str) -> Value:
    kind, value = _union(given, where)
    if kind not in _ARGUMENTS:
        raise CheckpointError(f"node {quoted(where)} is given {quoted(kind.removeprefix('as_'))}, which is not served")
    return _ARGUMENTS[kind](value, where)


def _tensor(value: Any, where: str) -> Ref:
    return Ref(_name(_object(value, where).get("name")))


def _optional(value: Any, where: str) -> Ref | None:
    kind, tensor = _union(value, where)
    return _tensor(tensor, where) if kind == "as_tensor" else None


def _symbolic(value: Any, where: str) -> Value:
    kind, content = _union(value, where)
    if kind == "as_name":
        return Ref(_name(content))
    return {"as_int": _int, "as_float": _float, "as_bool": _bool}.get(kind, _no_value)(content, where)


def _dtype(value: Any, where: str) -> torch.dtype:
    if (dtype := DTYPES.get(_int(value, where))) is None:
        raise CheckpointError(f"node {quoted(where)} is given a type of numbers that is not served")
    return dtype


def _memory_format(value: Any, where: str) -> torch.memory_format:
    if (found := MEMORY_FORMATS.get(_int(value, where))) is None:
        raise CheckpointError(f"node {quoted(where)} is given a memory format that is not served")
    return found


def _layout(value: Any, where: str) -> object:
    if _int(value, where) != STRIDED:
        raise CheckpointError(f"node {quoted(where)} makes a sparse tensor, which is not served")
    return _LEFT_OUT


def _no_value(_: Any, where: str) -> Value:
    raise CheckpointError(f"node {quoted(where)} has an argument that cannot be read; {AGAIN}")


def _many(read: Callable[[Any, str], Value]) -> Callable[[Any, str], Value]:
    return lambda value, where: tuple(read(item, where) for item in _list(value, where))


def _ranges(given: Mapping[str, Any]) -> dict[str, Range]:
    read = {}
    for symbol, value in given.items():
        limits = _object(value, symbol)
        bounds = [None if limit is None else _int(limit, symbol) for limit in map(limits.get, ("min_val", "max_val"))]
        read[symbol] = Range(*bounds)
    return read


def _check_order(graph: Graph) -> None:
    """Each value is computed once, and before it is read."""
    known = {bound.name for bound in graph.bound} | set(graph.inputs)
    if len(known) < len(graph.bound) + len(graph.inputs):
        raise CheckpointError(f"two of its inputs have one name: it is damaged; {AGAIN}")
    for node in graph.nodes:
        for name in node.reads():
            if name not in known:
                raise CheckpointError(
                    f"node {quoted(node.name)} reads {quoted(name)}, which nothing before it computes"
                )
        for name in node.writes():
            if name in known:
                raise CheckpointError(f"node {quoted(node.name)} computes {quoted(name)}, which is there already")
            known.add(name)
    for output in graph.outputs:
        if output is not None and output.name not in known:
            raise CheckpointError(f"it returns {quoted(output.name)}, which no node computes")


def _dimension(given: Any, where: str) -> Dimension:
    kind, value = _union(given, where)
    if kind == "as_int":
        return Dimension(_size(value, where))
    expression = _object(value, where)
    hint = expression.get("hint")
    size = 0 if hint is None else _size(_union(hint, where)[1], where)
    return Dimension(size, _symbol(_text(expression.get("expr_str"))))


def _symbol(text: str) -> str:
    """The name of a plain symbol; of any other expression its text."""
    return text.removeprefix("Symbol('").partition("'")[0] if text.startswith("Symbol('") else text


def _size(value: Any, where: str) -> int:
    if not 0 <= _int(value, where) < 2**63:
        raise CheckpointError(f"the tensor {quoted(where)} has an axis of {value}, which is no size")
    return int(value)


def _union(given: Any, where: str) -> tuple[str, Any]:
    """The one key of an object and its value, which is an object where that is what is wanted."""
    value = _object(given, where)
    if len(value) != 1:
        raise CheckpointError(f"{where} has {len(value)} kinds where it must have one: its JSON is damaged; {AGAIN}")
    return next(iter(value.items()))


def _union_of_object(given: Any, where: str) -> tuple[str, dict[str, Any]]:
    kind, value = _union(given, where)
    return kind, _object(value, where)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _damaged(where)
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _damaged(where)
    return value


def _int(value: Any, where: str) -> int:
    if type(value) is not int:
        raise _damaged(where)
    if not -(2**63) <= value < 2**63:
        raise CheckpointError(f"{quoted(where)} has a number beyond 64 bits")
    return value


def _float(value: Any, where: str) -> float:
    if isinstance(value, str) and value in INFINITIES:
        return INFINITIES[value]
    if type(value) not in {int, float}:
        raise _damaged(where)
    try:
        return float(value)
    except OverflowError:
        raise _damaged(where) from None


def _bool(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _damaged(where)
    return value


def _text(value: Any, _: str = "") -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise _damaged("a name")
    return value


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _damaged(where)
    return value[:LONGEST_NAME]  # what is longer is a message


def _name(value: Any) -> str:
    if not _text(value):
        raise _damaged("a name")
    return str(value)


def _damaged(where: str) -> CheckpointError:
    return CheckpointError(f"its JSON is damaged ({printable(where)} is not what it must be); {AGAIN}")


_ARGUMENTS: dict[str, Callable[[Any, str], Value]] = {
    "as_none": lambda _, __: None,
    "as_tensor": _tensor,
    "as_tensors": _many(_tensor),
    "as_optional_tensor": _optional,
    "as_optional_tensors": _many(_optional),
    "as_int": _int,
    "as_ints": _many(_int),
    "as_float": _float,
    "as_floats": _many(_float),
    "as_bool": _bool,
    "as_bools": _many(_bool),
    "as_string": _string,
    "as_sym_int": _symbolic,
    "as_sym_ints": _many(_symbolic),
    "as_sym_float": _symbolic,
    "as_sym_floats": _many(_symbolic),
    "as_sym_bool": _symbolic,
    "as_sym_bools": _many(_symbolic),
    "as_scalar_type": _dtype,
    "as_memory_format": _memory_format,
    "as_layout": _layout,
    "as_device": lambda _, __: _LEFT_OUT,
}
