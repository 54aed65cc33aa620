"""The graph of an exported program, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch


class Ref(NamedTuple):
    """The name of a value that the graph computes or is given."""

    name: str


@dataclass(frozen=True)
class Size:
    """A size that depends on the batch: factor · batch^batch · steps^steps + offset."""

    factor: int
    batch: int = 0
    steps: int = 0
    offset: int = 0

    def at(self, batch: int, steps: int) -> int:
        """Its value for so many sequences of so many steps."""
        return int(self.factor * batch**self.batch * steps**self.steps + self.offset)


Value = Any
"""An argument: Ref, Size, None, bool, int, float, str, torch.dtype, torch.memory_format, or a tuple of these."""


@dataclass(frozen=True)
class Node:
    """One call of an operator."""

    name: str
    target: str  # such as "torch.ops.aten.linear.default"
    arguments: tuple[tuple[str, Value], ...]  # by the names of the operator's schema, in order
    outputs: tuple[str | tuple[str | None, ...] | None, ...]  # names of what it returns
    module: str  # the submodule whose forward called it, such as "encoder.lstm"

    @property
    def operator(self) -> str:
        """The target without what all have in common, such as "aten.linear.default"."""
        return self.target.removeprefix("torch.ops.")

    def reads(self) -> Iterator[str]:
        """The names of the values that it is given."""
        for _, value in self.arguments:
            yield from references(value)

    def writes(self) -> Iterator[str]:
        """The names of the values that it computes."""
        for output in self.outputs:
            for name in output if isinstance(output, tuple) else (output,):
                if name is not None:
                    yield name

    def get(self, name: str, default: Value = None) -> Value:
        """The argument of this name."""
        return dict(self.arguments).get(name, default)

    def replaced(self, change: Callable[[str, int | None, Value], Value]) -> Node:
        """The same with each argument changed: `change` is given its name, place in a list or None, and value."""
        arguments = tuple(
            (
                name,
                tuple(change(name, place, item) for place, item in enumerate(value))
                if isinstance(value, tuple) and not isinstance(value, Ref)
                else change(name, None, value),
            )
            for name, value in self.arguments
        )
        return Node(self.name, self.target, arguments, self.outputs, self.module)


def references(value: Value) -> Iterator[str]:
    """The names in an argument."""
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, tuple):
        for item in value:
            yield from references(item)


class Dimension(NamedTuple):
    """The size of one axis in the sample, and whether it may differ from it."""

    size: int
    symbol: str | None = None  # such as "s77"; None: the file fixes it


class Meta(NamedTuple):
    """What the file says of a tensor."""

    dtype: torch.dtype
    shape: tuple[Dimension, ...]


class Bound(NamedTuple):
    """A tensor of the file that the graph reads, under its name in the module."""

    name: str  # in the graph
    path: str  # in the module, such as "lstm.weight_ih_l0"
    is_constant: bool  # it is no part of the state dict
    is_lifted: bool = False  # a tensor that forward made from numbers of its own


class Range(NamedTuple):
    """Between which sizes an export holds; None: no bound."""

    least: int | None
    most: int | None


@dataclass(frozen=True)
class Graph:
    """The nodes in the order in which they run, what they are given and what is returned."""

    nodes: tuple[Node, ...]
    bound: tuple[Bound, ...]
    inputs: tuple[str, ...]  # what the user gives, in order
    outputs: tuple[Ref | None, ...]  # what the user gets, in order; None: no tensor
    output_names: tuple[str, ...]
    metas: Mapping[str, Meta]  # of tensors, by name
    ranges: Mapping[str, Range]  # of symbols
