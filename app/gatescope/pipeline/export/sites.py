"""`sites_of`: the numbers of a graph that may be the batch or the number of steps of its sample.

An export writes every size that was not symbolic as a plain number. `candidates` lists what such a number may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from gatescope.pipeline.export.graph import Graph, Node, Size, Value

Axis = Literal["batch", "steps"]

_OFFSETS = (-2, -1, 1, 2)

_PRODUCTS: dict[str, tuple[str, ...]] = {
    "aten._unsafe_view.default": ("size",),
    "aten.reshape.default": ("shape",),
    "aten.unflatten.int": ("sizes",),
    "aten.view.default": ("size",),
}
"""Arguments whose product is that of the tensor's axes: none of them can be anything but a product."""

_SIZES: dict[str, tuple[str, ...]] = {
    "aten.arange.default": ("end",),
    "aten.arange.start": ("start", "end"),
    "aten.arange.start_step": ("start", "end"),
    "aten.broadcast_to.default": ("size",),
    "aten.constant_pad_nd.default": ("pad",),
    "aten.expand.default": ("size",),
    "aten.eye.default": ("n",),
    "aten.eye.m": ("n", "m"),
    "aten.full.default": ("size",),
    "aten.linspace.default": ("steps",),
    "aten.narrow.default": ("start", "length"),
    "aten.native_group_norm.default": ("N", "C", "HxW"),
    "aten.new_full.default": ("size",),
    "aten.new_ones.default": ("size",),
    "aten.new_zeros.default": ("size",),
    "aten.ones.default": ("size",),
    "aten.pad.default": ("pad",),
    "aten.repeat.default": ("repeats",),
    "aten.repeat_interleave.self_int": ("repeats",),
    "aten.slice.Tensor": ("start", "end"),
    "aten.tile.default": ("dims",),
    "aten.upsample_linear1d.default": ("output_size",),
    "aten.upsample_linear1d.vec": ("output_size",),
    "aten.upsample_nearest1d.default": ("output_size",),
    "aten.upsample_nearest1d.vec": ("output_size",),
    "aten.zeros.default": ("size",),
    "_operator.add": ("a", "b"),
    "_operator.floordiv": ("a", "b"),
    "_operator.mul": ("a", "b"),
    "_operator.sub": ("a", "b"),
}


class Site(NamedTuple):
    """One number among the arguments of a node."""

    argument: str
    place: int | None  # in a list
    value: int | Size
    is_product: bool


def sites_of(node: Node) -> list[Site]:
    """The numbers of a node that are sizes."""
    found = []
    for names, is_product in ((_PRODUCTS.get(node.operator), True), (_SIZES.get(node.operator), False)):
        for name in names or ():
            value = node.get(name)
            items: list[tuple[int | None, Value]] = (
                list(enumerate(value)) if isinstance(value, tuple) else [(None, value)]
            )
            found += [Site(name, place, item, is_product) for place, item in items if type(item) in {int, Size}]
    return found


def candidates(site: Site, axis: Axis, size: int) -> list[int | Size]:
    """What a number may stand for, itself first, where the sample has this size along the axis."""
    given = site.value if isinstance(site.value, Size) else Size(site.value)
    found: list[int | Size] = [site.value]
    if given.offset or given.factor < 1:
        return found
    exponents = (1,) if axis == "batch" else (1, 2)
    for exponent in exponents:
        product = size**exponent
        if given.factor % product == 0 and (size > 1 or exponent == 1):
            if size == 1 and not site.is_product and given.factor > 1:
                continue  # everything is a multiple of 1
            found.append(replace(given, factor=given.factor // product, **{axis: exponent}))
    if isinstance(site.value, int) and axis == "steps":
        found += [Size(1, steps=1, offset=offset) for offset in _OFFSETS if site.value == size + offset]
    return found


def with_sizes(node: Node, chosen: Mapping[tuple[str, int | None], int | Size]) -> Node:
    """The same node with these numbers in place of its own, by argument and place."""
    return node.replaced(lambda name, place, value: chosen.get((name, place), value))


def numbers_of(graph: Graph) -> set[int]:
    """Every size that the graph names: a trial with one of these could agree with it by accident."""
    sizes = {size.size for meta in graph.metas.values() for size in meta.shape}
    for node in graph.nodes:
        for _, value in node.arguments:
            sizes |= {item for item in (value if isinstance(value, tuple) else (value,)) if type(item) is int}
    return sizes
