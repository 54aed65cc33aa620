"""`suspects`: numbers in a graph that may have been computed from the number of steps of the sample.

Where an export fixes the number of steps, what its code computed from it stands in the graph as a plain number: a place
`x[:, 31]`, a division by 32, a padding up to 50. Nothing tells it from a constant, so a graph with such a number is run
over that many steps alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from gatescope.names import quoted
from gatescope.pipeline.export.graph import Graph, Node, Ref, Value
from gatescope.pipeline.export.sites import sites_of

MOST_LIFTED = 4096
"""Elements of a tensor that forward made, up to which they are looked at."""

_SETTINGS = frozenset(
    {
        *("dim", "dim0", "dim1", "dims", "axis", "axis0", "axis1", "start_dim", "end_dim", "source", "destination"),
        *("eps", "p", "momentum", "groups", "normalized_shape", "padding_idx", "negative_slope", "dropout_p"),
        *("correction", "ord", "assert_msg"),
    }
)
"""Arguments that name axes, or settings of a layer that nobody computes from a length."""

_PLACES = {
    "aten.select.int": ("index",),
    "aten.slice.Tensor": ("start", "end", "step"),
    "aten.narrow.default": ("start",),
}
"""Operators that pick along the axis `dim`, and their arguments that are places on it."""

_PADS = frozenset({"aten.constant_pad_nd.default", "aten.pad.default"})
_JOINS = frozenset({"aten.cat.default", "aten.concat.default"})
_CONVOLUTIONS = ("aten.conv1d.", "aten.conv2d.", "aten.convolution.")
_TO_THE_END = 2**62


class Moving(NamedTuple):
    """How the shape of a tensor follows the number of steps."""

    rank: int
    axes: Mapping[int, float]  # those that follow it, and by how many elements they are longer than a multiple of it


def suspects(graph: Graph, steps: int, moving: Mapping[str, Moving], lifted: Mapping[str, Tensor]) -> Iterator[str]:
    """Each number that may stem from the number of steps, described as the beginning of a sentence.

    Args:
        graph: with the sizes in it that are known to follow the steps.
        steps: of the sample.
        moving: how the shapes follow it, by the name of the tensor.
        lifted: tensors that forward made of numbers of its own, by name.
    """
    for name, tensor in lifted.items():
        if tensor.numel() <= MOST_LIFTED and any(is_computed_from(steps, value) for value in tensor.flatten().tolist()):
            yield f"the constant tensor {quoted(name)} holds a number that"
    readers = _readers(graph)
    for node in graph.nodes:
        place = f"node {quoted(node.name)} ({node.operator})"
        if _lengthens(node, moving, readers):
            yield f"{place} makes the steps longer by a number that"
        for argument, number in _suspicious(node, steps, moving):
            yield f"{place} has {argument} {number:g}, which"


def is_computed_from(steps: int, number: float) -> bool:
    """Whether a number is one that programs compute from a number of steps; 0 and 1 are not taken for such."""
    value = abs(float(number))
    if value in {0.0, 1.0} or not math.isfinite(value):
        return False
    return any(math.isclose(value, made, rel_tol=1e-6) for made in _computed(steps))


def _computed(steps: int) -> Iterator[float]:
    for near in range(max(steps - 1, 1), steps + 2):
        yield from (near, 1 / near)
    yield from (steps / 2, steps // 2, (steps + 1) // 2, 2 * steps, 2 * steps - 1, 2 * steps + 1, steps**2)
    yield from (math.sqrt(steps), 1 / math.sqrt(steps), math.log1p(steps), 2 / steps)
    if steps > 1:
        yield from (math.log(steps), math.log2(steps), math.log10(steps), 1 / math.log(steps))


def _suspicious(node: Node, steps: int, moving: Mapping[str, Moving]) -> Iterator[tuple[str, float]]:
    """The arguments of a node that are such numbers."""
    sizes = {(site.argument, site.place) for site in sites_of(node)}
    places = _PLACES.get(node.operator, ())
    places = places if places and _is_along_steps(node, moving) else ()
    for argument, value in node.arguments:
        if argument in _SETTINGS:
            continue
        is_place = argument in places
        for index, number in _numbers(value):
            is_computed = is_computed_from(steps, number) and (is_place or (argument, index) not in sizes)
            if is_computed or (is_place and 1 < number < _TO_THE_END):
                yield argument, number


def _is_along_steps(node: Node, moving: Mapping[str, Moving]) -> bool:
    found, axis = moving.get(_tensor(node)), node.get("dim", 0)
    return found is not None and (axis if axis >= 0 else axis + found.rank) in found.axes


def _lengthens(node: Node, moving: Mapping[str, Moving], readers: Mapping[str, list[Node]]) -> bool:
    """Whether a node adds a fixed number of steps that no convolution behind it takes away."""
    if node.operator not in _PADS | _JOINS:
        return False
    before, after = moving.get(_tensor(node)), moving.get(next(node.writes(), ""))
    if after is None:
        return False
    if node.operator in _JOINS:
        return any(longer > 1 for longer in after.axes.values())
    pads = node.get("pad")
    for axis in before.axes if before is not None else ():
        first = 2 * (after.rank - 1 - axis)
        left, right = (*pads[first : first + 2], 0, 0)[:2]
        is_of_convolution = all(
            each.operator.startswith(_CONVOLUTIONS) for each in readers.get(next(node.writes()), ())
        )
        if (left or right) and not (is_of_convolution and type(left) is int and left >= right >= 0):
            return True
    return False


def _readers(graph: Graph) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.reads():
            found.setdefault(name, []).append(node)
    return found


def _numbers(value: Value) -> Iterator[tuple[int | None, float]]:
    items = enumerate(value) if isinstance(value, tuple) and not isinstance(value, Ref) else ((None, value),)
    for index, item in items:
        if type(item) in {int, float}:
            yield index, item


def _tensor(node: Node) -> str:
    reference = node.get("self")
    return reference.name if isinstance(reference, Ref) else ""
