"""The classes and functions that a pickle may name, and with which arguments it may call them.

What makes tensors, or costs memory, is called with arguments that were looked at: `weights_only` would let
`bytearray(10**12)` pass, or a tensor larger than its file. What is only kept beside the weights is a stand-in's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from gatescope.checkpoints.formats import placeholders
from gatescope.checkpoints.formats.names import RESAVE, quoted
from gatescope.errors import CheckpointError

MOST_DIMENSIONS = 16
MOST_ARGUMENTS = 64
MOST_COUNT = 2**63 - 1
KEY_BYTES = 100

DTYPES = frozenset(f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype))

ITEM_BYTES = {
    "torch.BFloat16Storage": 2,
    "torch.BoolStorage": 1,
    "torch.ByteStorage": 1,
    "torch.CharStorage": 1,
    "torch.ComplexDoubleStorage": 16,
    "torch.ComplexFloatStorage": 8,
    "torch.DoubleStorage": 8,
    "torch.FloatStorage": 4,
    "torch.HalfStorage": 2,
    "torch.IntStorage": 4,
    "torch.LongStorage": 8,
    "torch.ShortStorage": 2,
}


@dataclass(frozen=True)
class Named:
    """A class or function that the pickle names."""

    name: str


@dataclass(frozen=True)
class Storage:
    """The numbers behind one or more tensors, as the pickle declares them."""

    type: str
    numel: int

    @property
    def nbytes(self) -> int:
        """How many bytes the file must have for it."""
        return self.numel * ITEM_BYTES[self.type]


@dataclass
class Made:
    """An object that the pickle would make."""

    kind: str
    items: list[Any] = field(default_factory=list)
    """Of a list, its items; of a mapping, its keys."""
    copied: int = 0
    """Bytes, about, that making it copies from an object that is there already and may be copied again."""


def is_known(name: str) -> bool:
    """Whether a pickle may name this at all."""
    return name in CALLS or name in ITEM_BYTES or name in placeholders.CLASSES or name in DTYPES


def result(called: Any, arguments: Any) -> Made:
    """What a call would make.

    Raises:
        CheckpointError: it is not a call that reading weights needs.
    """
    if not isinstance(called, Named) or called.name not in CALLS:
        what = quoted(called.name) if isinstance(called, Named) else "what is no class"
        raise CheckpointError(f"its pickle calls {what}, which no state dict needs; {RESAVE}")
    made = CALLS[called.name](arguments) if isinstance(arguments, tuple) and len(arguments) <= MOST_ARGUMENTS else None
    if made is None:
        raise CheckpointError(
            f"its pickle calls {quoted(called.name)} in a way that torch.save does not write; {RESAVE}"
        )
    return made


def _ordered(arguments: tuple[Any, ...]) -> Made | None:
    return Made("OrderedDict") if arguments == () else None


def _counter(arguments: tuple[Any, ...]) -> Made | None:
    match arguments:
        case ():
            return Made("Counter")
        case (Made("dict", keys),):
            return Made("Counter", list(keys), copied=len(keys) * KEY_BYTES)
    return None


def _encoded(arguments: tuple[Any, ...]) -> Made | None:
    match arguments:
        case (str(text), "latin1"):
            return Made("bytes", copied=len(text))
    return None


def _tensor(arguments: tuple[Any, ...]) -> Made | None:
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(strides), bool(), Made("OrderedDict", [])):
            pass
        case _:
            return None
    if len(shape) != len(strides) or len(shape) > MOST_DIMENSIONS or not _are_counts((offset, *shape, *strides)):
        return None
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > 0 and last >= storage.numel:
        raise CheckpointError(
            f"a tensor of shape {list(shape)} lies outside its storage of {storage.numel} numbers; save the file again"
        )
    if math.prod(shape) > storage.numel:
        raise CheckpointError(
            f"a tensor of shape {list(shape)} is an expanded view of {storage.numel} numbers; save it as tensor.clone()"
        )
    return Made("tensor")


def _parameter(arguments: tuple[Any, ...]) -> Made | None:
    match arguments:
        case (Made("tensor"), bool(), Made("OrderedDict", [])):
            return Made("tensor")
    return None


def _size(arguments: tuple[Any, ...]) -> Made | None:
    match arguments:
        case (tuple(shape),) if _are_counts(shape) and len(shape) <= MOST_DIMENSIONS:
            return Made("size")
    return None


def _device(arguments: tuple[Any, ...]) -> Made | None:
    match arguments:
        case (str(),) | (str(), int()):
            return Made("device")
    return None


def _are_counts(numbers: tuple[Any, ...]) -> bool:
    return all(type(number) is int and 0 <= number <= MOST_COUNT for number in numbers)


def _stand_in(_arguments: tuple[Any, ...]) -> Made:
    return Made("stand-in")


def _mapping(_arguments: tuple[Any, ...]) -> Made:
    return Made("OrderedDict")


CALLS: dict[str, Callable[[tuple[Any, ...]], Made | None]] = {
    "_codecs.encode": _encoded,
    "collections.Counter": _counter,
    "collections.OrderedDict": _ordered,
    "torch.Size": _size,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.device": _device,
    **dict.fromkeys(placeholders.OBJECTS, _stand_in),
    **dict.fromkeys(placeholders.MAPPINGS, _mapping),
}
"""Name -> what a call of it makes; None for arguments that it never gets."""
