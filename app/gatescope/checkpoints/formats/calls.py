"""What becomes of the classes and functions that a pickle names and calls: plain values, tensors or placeholders.

Nothing is imported and nothing of the file's choice is called. What is known is made here, by arguments that were
looked at; everything else becomes a placeholder under its name.
"""

from __future__ import annotations

import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from typing import Any

import torch

from gatescope.checkpoints.formats.placeholders import Global, Placeholder
from gatescope.checkpoints.formats.plain import NAMESPACE, Array, ArrayType, Entries, Items
from gatescope.errors import CheckpointError
from gatescope.names import LONGEST_NAME, RESAVE, quoted
from gatescope.pipeline.stored_tensors import MOST_DIMENSIONS, Storage, StoredTensor, are_counts

PAIR_BYTES = 100

DTYPES = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
DEVICE = re.compile(r"(cpu|cuda|mps|meta|xpu|hpu|xla)(:\d{1,2})?")

Spend = Callable[[int], None]
"""Called with a number of bytes before they are copied from what is in memory already."""

Call = Callable[[tuple[Any, ...], Spend], Any]
"""Arguments -> what the call makes; None where these are not the arguments that it gets."""


def named(module: str, name: str) -> Global | torch.dtype:
    """What stands for a class or function; of torch's types of numbers, the type itself.

    Up to protocol 2, pickle writes the names that Python 2 had.
    """
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    dotted = f"{module[:LONGEST_NAME]}.{name[:LONGEST_NAME]}"
    return DTYPES.get(dotted) or Global(dotted)


def call(called: Any, arguments: Any, spend: Spend) -> Any:
    """What stands for the result of a call.

    Raises:
        CheckpointError: it would make a tensor, but not as `torch.save` writes one.
        TypeError: this is no call.
    """
    if not isinstance(arguments, tuple):
        raise TypeError(arguments)
    if isinstance(called, Placeholder):
        return Placeholder(called.name, arguments)
    if not isinstance(called, Global):
        raise TypeError(called)
    made = CALLS[called.name](arguments, spend) if called.name in CALLS else None
    return Placeholder(_name(called, arguments), arguments) if made is None else made


def _name(called: Global, arguments: tuple[Any, ...]) -> str:
    """The class of the object that is made, where a helper of pickle's makes it."""
    match called.name, arguments:
        case "builtins.getattr", (Global(name), str(attribute)):
            return f"{name}.{attribute[:LONGEST_NAME]}"
        case (("copyreg._reconstructor" | "copyreg.__newobj__" | "copyreg.__newobj_ex__"), (Global(name), *_)):
            return name
    return called.name


def _mapping(arguments: tuple[Any, ...], spend: Spend) -> Entries | None:
    """A mapping of nothing, the mapping that it would copy, or, as Python 2 wrote an OrderedDict, one of pairs."""
    entries = Entries()
    match arguments:
        case ():
            pass
        case (Entries() as other,):
            return other
        case (list(pairs),) if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):  # noqa: PLR2004
            spend(len(pairs) * PAIR_BYTES)
            entries.fill([key for key, _ in pairs], [value for _, value in pairs])
        case _:
            return None
    return entries


def _default_mapping(arguments: tuple[Any, ...], spend: Spend) -> Entries | None:
    return _mapping(arguments[1:], spend)  # the first one says what is made of a missing key


def _namespace(_arguments: tuple[Any, ...], _spend: Spend) -> Entries:
    return Entries(NAMESPACE)


def _set(arguments: tuple[Any, ...], _spend: Spend) -> Items | None:
    match arguments:
        case ():
            return Items([])
        case (list(items),):
            return Items(items)
    return None


def _frozen_set(arguments: tuple[Any, ...], spend: Spend) -> Items | None:
    items = _set(arguments, spend)
    if items is not None:
        items.frozen = True
    return items


def _encoded(arguments: tuple[Any, ...], spend: Spend) -> bytes | None:
    match arguments:
        case (str(text), "latin1" | "latin-1"):
            spend(len(text))
            return text.encode("latin-1")
    return None


def _bytes(arguments: tuple[Any, ...], spend: Spend) -> bytes | None:
    return _encoded(arguments, spend) if arguments else b""


def _bytearray(arguments: tuple[Any, ...], spend: Spend) -> bytearray | None:
    match arguments:
        case ():
            return bytearray()
        case (bytes(content),):
            spend(len(content))
            return bytearray(content)
    encoded = _encoded(arguments, spend)
    return None if encoded is None else bytearray(encoded)


def _complex(arguments: tuple[Any, ...], _spend: Spend) -> complex | None:
    match arguments:
        case (float(real), float(imaginary)):
            return complex(real, imaginary)
    return None


def _text(arguments: tuple[Any, ...], _spend: Spend) -> str | None:
    match arguments:
        case (str(text),):
            return text
    return None


def _size(arguments: tuple[Any, ...], _spend: Spend) -> torch.Size | None:
    match arguments:
        case (tuple(shape),) if are_counts(shape) and len(shape) <= MOST_DIMENSIONS:
            return torch.Size(shape)
    return None


def _device(arguments: tuple[Any, ...], _spend: Spend) -> torch.device | None:
    match arguments:
        case (str(name),) if DEVICE.fullmatch(name):
            return torch.device(name)
        case (str(name), int(index)) if DEVICE.fullmatch(f"{name}:{index:d}"[:LONGEST_NAME]):
            return torch.device(name, index)
    return None


def _array_type(arguments: tuple[Any, ...], _spend: Spend) -> ArrayType | None:
    match arguments:
        case (str(code), *_):
            return ArrayType(code)
    return None


def _array(_arguments: tuple[Any, ...], _spend: Spend) -> Array:
    return Array()


def _scalar(arguments: tuple[Any, ...], _spend: Spend) -> Array | None:
    match arguments:
        case (ArrayType() as array_type, bytes(raw)):
            return Array(array_type, (), raw)
    return None


def _array_of_buffer(arguments: tuple[Any, ...], _spend: Spend) -> Array | None:
    match arguments:
        case (bytes() | bytearray() as raw, ArrayType() as array_type, tuple(shape), "C" | "F" as order, *_):
            array = Array(array_type, shape, raw)
            array.fortran = order == "F"
            return array
    return None


def _tensor(arguments: tuple[Any, ...], _spend: Spend) -> StoredTensor | Placeholder:
    """`_rebuild_tensor` and `_rebuild_tensor_v2`: storage, offset, shape, strides, and then what is no number of it."""
    match arguments:
        case (Storage() as storage, offset, shape, strides, *rest):
            if _has_flags(rest[2:]):
                return Placeholder("torch.Tensor", arguments)
            if stored := StoredTensor.of(storage, storage.dtype, offset, shape, strides):
                return stored
    raise _odd("torch._utils._rebuild_tensor_v2")


def _typed_tensor(arguments: tuple[Any, ...], _spend: Spend) -> StoredTensor | Placeholder:
    """`_rebuild_tensor_v3`: as before, the type of the numbers behind the hooks."""
    match arguments:
        case (Storage() as storage, offset, shape, strides, _, _, torch.dtype() as dtype, *rest):
            if _has_flags(rest):
                return Placeholder("torch.Tensor", arguments)
            if stored := StoredTensor.of(storage, dtype, offset, shape, strides):
                return stored
    raise _odd("torch._utils._rebuild_tensor_v3")


def _has_flags(metadata: list[Any]) -> bool:
    """Whether the numbers are to be conjugated or negated, or are a device's own."""
    return any(not isinstance(flags, Entries) or flags.named or flags.others for flags in metadata if flags is not None)


def _parameter(arguments: tuple[Any, ...], _spend: Spend) -> StoredTensor | Placeholder:
    match arguments:
        case (StoredTensor() | Placeholder() as tensor, bool(), *_):
            return tensor
    raise _odd("torch._utils._rebuild_parameter")


def _subclass(arguments: tuple[Any, ...], spend: Spend) -> Any:
    """`_rebuild_from_type_v2`: a tensor with attributes; of a class other than these, its numbers mean what it says."""
    match arguments:
        case (
            Global() as function,
            Global("torch._tensor.Tensor" | "torch.Tensor" | "torch.nn.parameter.Parameter"),
            tuple(inner),
            *_,
        ):
            return call(function, inner, spend)
        case (_, Global(name), *_):
            return Placeholder(name, arguments)
    raise _odd("torch._tensor._rebuild_from_type_v2")


def _from_device(arguments: tuple[Any, ...], _spend: Spend) -> StoredTensor | None:
    match arguments:
        case (StoredTensor() as tensor, torch.dtype() as dtype, *_) if tensor.dtype == dtype:
            return tensor
    return None


def _odd(name: str) -> CheckpointError:
    return CheckpointError(f"its pickle calls {quoted(name)} in a way that torch.save does not write; {RESAVE}")


CALLS: dict[str, Call] = {
    "_codecs.encode": _encoded,
    "argparse.Namespace": _namespace,
    "builtins.bytearray": _bytearray,
    "builtins.bytes": _bytes,
    "builtins.complex": _complex,
    "builtins.frozenset": _frozen_set,
    "builtins.set": _set,
    "collections.Counter": _mapping,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _default_mapping,
    "lightning.fabric.utilities.data.AttributeDict": _mapping,
    "lightning.pytorch.utilities.parsing.AttributeDict": _mapping,
    "lightning_fabric.utilities.data.AttributeDict": _mapping,
    "numpy._core.multiarray._reconstruct": _array,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _array_of_buffer,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _array_of_buffer,
    "numpy.dtype": _array_type,
    "pytorch_lightning.utilities.parsing.AttributeDict": _mapping,
    "torch.Size": _size,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _from_device,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch.device": _device,
    "torch.torch_version.TorchVersion": _text,
    "types.SimpleNamespace": _namespace,
}
"""Name -> what a call of it makes."""
