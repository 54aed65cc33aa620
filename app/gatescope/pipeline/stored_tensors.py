"""Tensors as a file declares them, and the reading of their numbers into memory of their own.

A declared tensor costs a few words. Only those that turn out to be weights are read, straight from the file into the
memory where they stay: an optimizer's state beside them is never touched, and no later change of the file reaches them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.errors import CheckpointError
from gatescope.pipeline.finite import is_finite
from gatescope.source import Source

MOST_DIMENSIONS = 16
MOST_COUNT = 2**63 - 1

BLOCK_BYTES = 2 * 2**20
"""Read at once and then looked through while it is in the cache: 0.25 to 4 MiB take the same time within 5 %."""

LARGE_BYTES = 4 * 2**20
"""From here on NumPy's memory has pages of 2 MiB: ten tensors of 40 MB are read in 80 ms, into PyTorch's in 205 ms."""
ALIGNMENT_BYTES = 64
"""Of the memory that PyTorch allocates."""

QUANTISED_DTYPES = frozenset({torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4})

STORAGES = {
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
    "torch.QInt32Storage": torch.qint32,
    "torch.QInt8Storage": torch.qint8,
    "torch.QUInt2x4Storage": torch.quint2x4,
    "torch.QUInt4x2Storage": torch.quint4x2,
    "torch.QUInt8Storage": torch.quint8,
    "torch.ShortStorage": torch.int16,
    "torch.UntypedStorage": torch.uint8,
    "torch.storage.UntypedStorage": torch.uint8,
}


@dataclass(eq=False, slots=True)
class Storage:
    """The numbers behind one or more tensors; `offset` is their place in the file, in bytes."""

    dtype: torch.dtype
    numel: int
    source: Source
    offset: int = -1
    is_big_endian: bool = False

    @property
    def nbytes(self) -> int:
        """How many bytes the file must have for it."""
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True, eq=False, slots=True)
class StoredTensor:
    """A tensor in a file; `offset` is counted in its numbers, from the start of its storage."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, storage: Storage, dtype: torch.dtype, offset: Any, shape: Any, strides: Any) -> StoredTensor | None:
        """The tensor; None where these are no sizes of one.

        Raises:
            CheckpointError: it lies outside its storage.
        """
        if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides)):
            return None
        if len(shape) > MOST_DIMENSIONS or not are_counts((offset, *shape, *strides)):
            return None
        stored = cls(storage, dtype, offset, tuple(shape), tuple(strides))
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if stored.numel and last >= stored.capacity:
            raise CheckpointError(
                f"a tensor of shape {list(shape)} lies outside its storage of {stored.capacity} numbers; "
                "save the file again"
            )
        return stored

    @property
    def numel(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes it takes in memory of its own."""
        return self.numel * self.dtype.itemsize

    @property
    def capacity(self) -> int:
        """How many numbers of its kind its storage has."""
        return self.storage.nbytes // self.dtype.itemsize

    def check_expanded(self) -> None:
        """Refuse a view that repeats numbers: in memory of its own it would have more of them than the file.

        Raises:
            CheckpointError: it has more numbers than its storage.
        """
        if self.numel > self.capacity:
            raise CheckpointError(
                f"a tensor of shape {list(self.shape)} is an expanded view of {self.capacity} numbers; "
                "save it as tensor.clone()"
            )

    @property
    def is_contiguous(self) -> bool:
        """Whether its numbers lie one behind the other, the last dimension's first."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True


def are_counts(numbers: tuple[Any, ...]) -> bool:
    """Whether each of them may be a size, a stride or an offset."""
    return all(type(number) is int and 0 <= number <= MOST_COUNT for number in numbers)


class Loader:
    """Reads declared tensors that are not expanded.

    A storage whose numbers are picked with strides is read once and kept until the end.
    """

    def __init__(self) -> None:
        self._storages: dict[tuple[int, torch.dtype], Tensor] = {}

    def load(self, stored: StoredTensor) -> tuple[Tensor, bool]:
        """The tensor, contiguous in memory of its own, and whether float32 can hold each of its numbers.

        Raises:
            CheckpointError: the file ends before.
        """
        if stored.is_contiguous:
            value = _empty(stored.numel, stored.dtype).view(stored.shape)
            place = stored.storage.offset + stored.offset * stored.dtype.itemsize
            return value, _fill(value, stored.storage, place)
        value = self._picked(stored)
        return value, is_finite(value)

    def _picked(self, stored: StoredTensor) -> Tensor:
        key = (id(stored.storage), stored.dtype)
        numbers = self._storages.get(key)
        if numbers is None:
            numbers = _empty(stored.capacity, stored.dtype)
            _fill(numbers, stored.storage, stored.storage.offset)
            self._storages[key] = numbers
        strides = [stride if size > 1 else 0 for size, stride in zip(stored.shape, stored.strides, strict=True)]
        view = numbers.as_strided(stored.shape, strides, stored.offset)
        return view.clone(memory_format=torch.contiguous_format)


def _empty(numel: int, dtype: torch.dtype) -> Tensor:
    """Memory for so many numbers; NumPy asks for large pages, PyTorch does not."""
    nbytes = numel * dtype.itemsize
    if nbytes < LARGE_BYTES:
        return torch.empty(numel, dtype=dtype)
    raw = np.empty(nbytes + ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT_BYTES
    return torch.from_numpy(raw[start : start + nbytes]).view(dtype)


def _fill(value: Tensor, storage: Storage, place: int) -> bool:
    """Read a contiguous tensor block by block; whether float32 can hold each of its numbers."""
    flat = value.view(-1)
    buffer = flat.view(torch.uint8).numpy().data
    finite = True
    for start in range(0, len(buffer), BLOCK_BYTES):
        block = buffer[start : start + BLOCK_BYTES]
        storage.source.fill(block, place + start)
        size = value.dtype.itemsize
        numbers = flat[start // size : (start + len(block)) // size]
        if storage.is_big_endian and size > 1:
            numbers.view(torch.uint8).numpy().view(f"u{size}").byteswap(inplace=True)
        finite = finite and is_finite(numbers)
    return finite
