"""`Search`: which sizes in a graph follow the batch or the number of steps, found by running it over other sizes.

The runs are on the meta device: PyTorch computes shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from gatescope.names import quoted
from gatescope.pipeline.export.graph import Node, Ref, Size
from gatescope.pipeline.export.interpreter import Context, NodeFailed, Step, Values
from gatescope.pipeline.export.sites import Axis, Site, candidates, sites_of, with_sizes

MOST_STEPS = 100_000
"""Nodes that are run before a search is given up."""
VALUES_PER_STEP = 50
"""So many values are copied in the time in which a node is run."""
MOST_COMBINATIONS = 1024
"""Of what the numbers of one node may stand for."""

Nodes = Mapping[int, Node]
"""Nodes with other sizes, by their place."""


class TooAmbiguous(Exception):
    """There are more readings of a graph's sizes than are tried."""


class _Path(NamedTuple):
    place: int  # of the next node
    values: Values
    chosen: dict[int, Node]


@dataclass(frozen=True)
class Search:
    """Readings of a graph's numbers in which all its nodes fit together.

    Args:
        steps: the nodes, in order.
        axis: what the numbers may follow.
        size: of the sample along this axis.
        context: other sizes, for the trial.
        keeps_rows: leave out views that move elements from one place along the axis to another.
    """

    steps: list[Step]
    axis: Axis
    size: int
    context: Context
    keeps_rows: bool = False

    def readings(self, values: Callable[[], Values]) -> Iterator[Nodes]:
        """Each reading: the nodes that it changes.

        Args:
            values: makes the inputs and weights of the trial, by name.

        Raises:
            NodeFailed: there is none; of the node up to which a reading fits.
            TooAmbiguous: there are too many to try.
        """
        paths, furthest, count, has_found = [_Path(0, values(), {})], None, 0, False
        while paths:
            path = paths.pop()
            index, reached, chosen = path
            while index < len(self.steps):
                fitting, options = [], list(self._options(index, reached))
                if not options and (furthest is None or index >= furthest[0]):
                    furthest = index, NodeFailed(self.steps[index].node, "fits the sizes of the sample alone")
                for node in options:
                    count += 1 + len(reached) // VALUES_PER_STEP
                    if count > MOST_STEPS:
                        raise TooAmbiguous
                    after = dict(reached) if len(options) > 1 else reached
                    try:
                        self.steps[index].run(after, self.context, node)
                    except NodeFailed as error:
                        if furthest is None or index >= furthest[0]:
                            furthest = index, error
                        continue
                    changed = chosen if node is self.steps[index].node else {**chosen, index: node}
                    fitting.append(_Path(index + 1, after, changed))
                if not fitting:
                    break
                paths += reversed(fitting[1:])
                index, reached, chosen = fitting[0]
            else:
                has_found = True
                yield chosen
        if not has_found and furthest is not None:
            raise furthest[1]

    def _options(self, index: int, values: Values) -> Iterator[Node]:
        """The node with each reading of its numbers that is worth a try."""
        node = self.steps[index].node
        sites = sites_of(node)
        choices = [candidates(site, self.axis, self.size) for site in sites]
        if math.prod(map(len, choices)) > MOST_COMBINATIONS:
            raise TooAmbiguous
        combinations = [
            combination for combination in product(*choices) if self._fits(node, sites, combination, values)
        ]
        for sizes in combinations:
            changed = {
                (site.argument, site.place): size
                for site, size in zip(sites, sizes, strict=True)
                if size is not site.value
            }
            yield with_sizes(node, changed) if changed else node

    def _fits(self, node: Node, sites: list[Site], sizes: tuple[Any, ...], values: Values) -> bool:
        """Whether a view has as many elements as what it is a view of; other nodes are tried."""
        if not sites or not sites[0].is_product or node.operator == "aten.unflatten.int":
            return True
        shape, before = self._shape(node, sites, sizes, values), list(values[node.get("self").name].shape)
        if -1 in shape:
            return True
        return math.prod(shape) == math.prod(before) and (not self.keeps_rows or self._keeps_rows(before, shape))

    def _keeps_rows(self, before: list[int], after: list[int]) -> bool:
        """Whether a row can be made of the same elements in both shapes, whose trial size is a prime number."""
        rows = getattr(self.context, self.axis)
        first, second = _blocks(before, rows), _blocks(after, rows)
        return first is None or second is None or bool(first & second)

    def _shape(self, node: Node, sites: list[Site], sizes: tuple[Any, ...], values: Values) -> list[int]:
        chosen = {site.place: size for site, size in zip(sites, sizes, strict=True)}
        shape = node.get(sites[0].argument)
        return [self._number(chosen.get(place, item), values) for place, item in enumerate(shape)]

    def _number(self, value: Any, values: Values) -> int:
        if isinstance(value, Size):
            return value.at(self.context.batch, self.context.steps)
        return int(values[value.name] if isinstance(value, Ref) else value)


def difference(first: Nodes, second: Nodes, steps: list[Step]) -> str:
    """The node at which two readings part."""
    index = min(index for index in {*first, *second} if first.get(index) != second.get(index))
    node = steps[index].node
    return f"node {quoted(node.name)} ({node.operator})"


def _blocks(shape: list[int], rows: int) -> set[int] | None:
    """How many elements of a row may lie side by side, if one axis is a multiple of the rows; else None."""
    axes = [axis for axis, size in enumerate(shape) if size and size % rows == 0]
    if len(axes) != 1:
        return None
    behind, times = math.prod(shape[axes[0] + 1 :]), shape[axes[0]] // rows
    return {behind * inner for inner in range(1, times + 1) if times % inner == 0}
