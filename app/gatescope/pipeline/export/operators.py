"""`function_of`: what runs for the name of an operator, looked up in a list of those that may run."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gatescope.names import listed, quoted
from gatescope.pipeline.export.allowed import NUMBERS_FOR_TENSORS, RECURRENT_OPERATORS, STRINGS, TENSOR_OPERATORS
from gatescope.pipeline.export.graph import Node, Ref, Size, Value

Function = Callable[[Mapping[str, Any]], Any]
"""Takes an operator's arguments by name."""

LARGEST_NUMBER = 2**63 - 1

_TRAINING = ("train", "training")
_TENSORS = ("self", "input")
_UNCHECKED = {"assert_msg", "equation"}
_AS_IN_TRAINING = frozenset({"aten._native_batch_norm_legit.no_stats"})  # an instance norm's, which has no other form


def function_of(node: Node) -> Function | None:
    """What runs for this node; None where its operator is not among those that may run."""
    if node.target in _NUMBER_OPERATORS:
        return _of_numbers(_NUMBER_OPERATORS[node.target])
    name = node.operator
    if not node.target.startswith("torch.ops.") or name not in TENSOR_OPERATORS or name in RECURRENT_OPERATORS:
        return None
    if name in _REPLACED:
        return _REPLACED[name]
    overload = overload_of(name)
    return None if overload is None else _of_tensors(overload)


def misuse_of(node: Node) -> str | None:
    """How the arguments of a node are not what its operator takes, as the end of a sentence; None if they are."""
    overload = overload_of(node.operator)
    if overload is None or node.operator in RECURRENT_OPERATORS:
        return None
    expected = {each.name: each for each in overload._schema.arguments}  # noqa: SLF001
    given = dict(node.arguments)
    if surplus := [name for name in given if name not in expected]:
        return f"is given {listed(surplus)}, which it does not take"
    for name, argument in expected.items():
        if name not in given:
            if not argument.has_default_value() and name != "device":  # which is where the graph is run
                return f"lacks its argument {quoted(name)}"
        elif (wanted := _wanted(node, name, str(argument.type), given[name])) is not None:
            return f"is given no {wanted} for {quoted(name)}"
    return None


def _wanted(node: Node, name: str, kind: str, value: Value) -> str | None:
    """What an argument of this kind must be and is not; None where it is."""
    if kind == "Tensor" and name in _TENSORS and not _is_tensor(node, value):
        return "tensor"
    if kind.startswith("List[") and not _is_list(value):
        return "list"
    if kind == "List[int]" and not all(isinstance(item, int | Ref | Size) for item in value):
        return "list of numbers"
    return None


def _is_tensor(node: Node, value: Value) -> bool:
    return isinstance(value, Ref) or node.operator in NUMBERS_FOR_TENSORS


def _is_list(value: Value) -> bool:
    return isinstance(value, tuple) and not isinstance(value, Ref)


def overload_of(name: str) -> Any:
    """PyTorch's function for a name that is allowed, such as "aten.linear.default"; None in a version without it."""
    if name not in TENSOR_OPERATORS:
        return None
    _, packet, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, packet, None), overload, None)


def reshape(given: Mapping[str, Any]) -> Any:
    """A view, or a copy where the memory does not allow one."""
    return given["self"].reshape(given["size"])


def view_of_meta(given: Mapping[str, Any]) -> Any:
    """The same, but on the meta device always a view."""
    tensor, size = given["self"], given["size"]
    return tensor.view(size) if tensor.is_meta else tensor.reshape(size)


def refusal_of(node: Node) -> str | None:
    """Why the arguments of a node that may run are not served, as the end of a sentence; None where they are."""
    given = dict(node.arguments)
    if any(given.get(name) is True for name in _TRAINING) and _trains(node, given):
        return "runs as in training; call .eval() before torch.export.export"
    if given.get("dropout_p") or (node.operator == "aten.dropout.default" and given.get("train")):
        return "drops values at random"
    for name, value in given.items():
        if name not in _UNCHECKED and not _are_known(value):
            return f"is given the text {quoted(value)} for {name}, which is not served"
    return None


def written_by(node: Node) -> tuple[str, ...]:
    """The names of the arguments that the operator changes."""
    if node.operator in _REPLACED or (overload := overload_of(node.operator)) is None:
        return ()
    arguments = overload._schema.arguments  # noqa: SLF001 - there is no public way
    return tuple(each.name for each in arguments if each.alias_info is not None and each.alias_info.is_write)


def has_device(node: Node) -> bool:
    """Whether the operator may be told a device."""
    overload = overload_of(node.operator)
    return overload is not None and any(each.name == "device" for each in overload._schema.arguments)  # noqa: SLF001


def _trains(node: Node, given: Mapping[str, Value]) -> bool:
    if node.operator in _AS_IN_TRAINING:
        return False
    return node.operator not in RECURRENT_OPERATORS or bool(given.get("dropout"))


def _are_known(value: Value) -> bool:
    return not isinstance(value, str) or value in STRINGS


def _of_tensors(overload: Any) -> Function:
    def run(arguments: Mapping[str, Any]) -> Any:
        return overload(**arguments)

    return run


def _of_numbers(function: Callable[..., Any]) -> Function:
    def run(arguments: Mapping[str, Any]) -> Any:
        made = function(*arguments.values())
        if not abs(made) <= LARGEST_NUMBER:  # also NaN
            raise OverflowError("the number has more than 64 bits")
        return made

    return run


def _assert_scalar(given: Mapping[str, Any]) -> None:
    if not given["self"]:
        raise ValueError(f"its check failed: {given.get('assert_msg', '')}")


def _nothing(_: Mapping[str, Any]) -> None:
    """What only says once more what export has seen."""


def _self(given: Mapping[str, Any]) -> Any:
    return given["self"]


def _batch_norm(given: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
    arguments = {"running_mean": None, "running_var": None, "training": False, **given, "cudnn_enabled": False}
    return torch.ops.aten.batch_norm.default(**arguments), None, None


def _group_norm(given: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
    inputs, weight, bias = given["input"], given.get("weight"), given.get("bias")
    if inputs.shape[:2] != (given["N"], given["C"]) or inputs.numel() != given["N"] * given["C"] * given["HxW"]:
        raise ValueError(f"it normalises {list(inputs.shape)} as another shape")
    return torch.group_norm(inputs, given["group"], weight, bias, given["eps"]), None, None


def _rms_norm(given: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
    return torch.ops.aten.rms_norm.default(**given), None


def _weight_norm(given: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
    return torch._weight_norm(given["v"], given["g"], given.get("dim", 0)), None  # noqa: SLF001


def _attention(given: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
    made = torch.nn.functional.scaled_dot_product_attention(
        given["query"],
        given["key"],
        given["value"],
        given.get("attn_mask"),
        is_causal=given.get("is_causal", False),
        scale=given.get("scale"),
    )
    return made.transpose(1, 2).contiguous().transpose(1, 2), None  # in memory as (batch, time, head, feature)


def _choice(condition: Any, first: Any, second: Any) -> Any:
    return first if condition else second


_REPLACED: dict[str, Function] = {
    "aten._assert_scalar.default": _assert_scalar,
    "aten._assert_tensor_metadata.default": _nothing,
    "aten._fused_rms_norm.default": _rms_norm,
    "aten._native_batch_norm_legit.no_stats": _batch_norm,
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": _attention,
    "aten._weight_norm_interface.default": _weight_norm,
    "aten.alpha_dropout.default": lambda given: given["input"],
    "aten.detach_.default": _self,
    "aten.dropout.default": lambda given: given["input"],
    "aten.dropout_.default": _self,
    "aten.feature_dropout.default": lambda given: given["input"],
    "aten.native_group_norm.default": _group_norm,
    "aten.sym_constrain_range.default": _nothing,
    "aten.sym_constrain_range_for_size.default": _nothing,
    "aten.sym_numel.default": lambda given: given["self"].numel(),
    "aten.sym_size.int": lambda given: given["self"].shape[given["dim"]],
}
"""Operators whose own function takes sizes without holding them against its tensors, or that do nothing here."""

_NUMBER_OPERATORS: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in (
            "add",
            "eq",
            "floordiv",
            "ge",
            "gt",
            "le",
            "lt",
            "mod",
            "mul",
            "ne",
            "neg",
            "pos",
            "sub",
            "truediv",
        )
    },
    "math.trunc": int,
    "torch.sym_float": float,
    "torch.sym_int": int,
    "torch.sym_ite": _choice,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
}
"""What is computed of sizes; a number has at most 64 bits, so none of them can take long."""
