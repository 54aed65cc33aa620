"""`free_sizes`: makes a program run over other batches and numbers of steps than its sample's, where that is safe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

import torch
from torch import Tensor

from gatescope.pipeline.export.exported import Exported
from gatescope.pipeline.export.interpreter import NodeFailed
from gatescope.pipeline.export.literals import Moving, suspects
from gatescope.pipeline.export.search import Nodes, Search, TooAmbiguous, difference
from gatescope.pipeline.export.sites import Axis, numbers_of

MOST_READINGS_TRIED = 8
_TOLERANCE = 1e-8
"""In float64, relative to the largest value: a row that reads another may do so very little."""


@dataclass(frozen=True)
class Fixed:
    """A size of the sample over which alone a program runs, and why."""

    size: int
    reason: str


@dataclass(frozen=True)
class Sizes:
    """Over which sizes a program runs; None: any."""

    batch: Fixed | None
    steps: Fixed | None
    steps_are_inferred: bool  # the file fixes the number of steps, but the graph nowhere depends on it


def free_sizes(program: Exported) -> Sizes:
    """Find the numbers in the graph that are the batch or the steps of its sample, and make them follow the inputs.

    The batch is freed where a batch of other rows gives, in float64, what each row gives in a batch of the sample's
    size: a row alone is what is asked for. The steps
    are freed where exactly one reading of the graph's sizes fits other numbers of steps, and no number is left in it
    that may have been computed from the sample's.
    """
    batch, steps = program.sequence.dimensions[:2]
    fixed_batch = None if batch.symbol is not None else _free_batch(program)
    fixed_steps = (
        None if steps.symbol is not None else _free_steps(program, None if fixed_batch is None else batch.size)
    )
    return Sizes(fixed_batch, fixed_steps, steps.symbol is None and fixed_steps is None)


def _free_batch(program: Exported) -> Fixed | None:
    size, steps = program.sequence.shape[:2]
    other = next(_other_sizes(program, max(size, 2)))
    try:
        for nodes in islice(_readings(program, "batch", size, other, steps), MOST_READINGS_TRIED):
            before = program.graph
            outputs = _by_rows(program, size, other, steps)
            program.change(nodes)
            program.check_memory(other, steps)
            together = program.run_wide(_random(program, other, steps), other, steps)
            if _are_rows(together, outputs, size, other):
                return None
            program.change(dict(enumerate(before.nodes)))
        reason = "no reading of its sizes gives for other batches what it gives for the sample's"
    except TooAmbiguous:
        reason = "the sizes in its graph have too many readings"
    except NodeFailed as error:
        reason = f"over other batches {error}"
    return Fixed(size, f"{reason}; export it with dynamic_shapes, the batch as torch.export.Dim.DYNAMIC")


def _free_steps(program: Exported, fixed_batch: int | None) -> Fixed | None:
    size = program.sequence.shape[1]
    others = _other_sizes(program, 2 * size + 3)
    first, second, batch = next(others), next(others), fixed_batch or next(_other_sizes(program, 2))
    again = f"export it again with a sample of another number of steps, such as {next(_primes(2 * size + 15))}"
    try:
        readings = list(islice(_readings(program, "steps", size, batch, first), 2))
        if len(readings) > 1:
            where = difference(readings[0], readings[1], program.interpreter.steps)
            return Fixed(size, f"{where} has a size that may follow the number of steps, or be {size} always; {again}")
        before = program.graph
        program.change(readings[0])
        found = next(suspects(program.graph, size, _moving(program, batch, first, second), program.lifted), None)
    except TooAmbiguous:
        return Fixed(size, f"the sizes in its graph have too many readings; {again}")
    except NodeFailed as error:
        return Fixed(size, f"over another number of steps {error}")
    if found is None:
        return None
    program.change(dict(enumerate(before.nodes)))
    return Fixed(
        size, f"{found} may have been computed from the {size} steps of the sample; if it is a constant, {again}"
    )


def _readings(program: Exported, axis: Axis, size: int, batch: int, steps: int) -> Iterator[Nodes]:
    """Each reading over these sizes, which differ from the sample's `size` along the axis."""
    make = partial(program.meta_values, batch, steps)
    values = make()
    search = Search(
        program.interpreter.steps,
        axis,
        size,
        program.meta_context(batch, steps, values),
        keeps_rows=axis == "batch",
    )
    return search.readings(lambda: values)


def _moving(program: Exported, batch: int, first: int, second: int) -> dict[str, Moving]:
    """How each tensor's axes follow the number of steps, from runs over two of them."""
    found = {}
    after = program.shapes(batch, second)
    for name, shape in program.shapes(batch, first).items():
        axes = {}
        for axis, (one, two) in enumerate(zip(shape, after[name], strict=True)):
            if one != two:
                axes[axis] = one - first * (two - one) / (second - first)
        found[name] = Moving(len(shape), axes)
    return found


def _by_rows(program: Exported, size: int, other: int, steps: int) -> list[tuple[Tensor | None, ...]]:
    """The outputs for each of `other` rows, each in a batch of the sample's size that has it `size` times."""
    inputs = _random(program, other, steps)
    axes = {each.name: each.batch_axis for each in program.inputs}
    rows = []
    for row in range(other):
        alone = {
            name: value.narrow(axes[name], row, 1).repeat_interleave(size, axes[name]) for name, value in inputs.items()
        }
        rows.append(program.run_wide(alone, size, steps))
    return rows


def _random(program: Exported, batch: int, steps: int) -> dict[str, Tensor]:
    """Inputs of these sizes; ids are 0 and 1, lengths the steps."""
    random = torch.Generator().manual_seed(0)
    inputs = {}
    for each in program.inputs:
        shape = each.sized(batch, steps)
        if each.role == "lengths":
            inputs[each.name] = torch.full(shape, steps, dtype=each.dtype)
        elif each.dtype.is_floating_point:
            inputs[each.name] = torch.randn(shape, generator=random, dtype=torch.float64)
        else:
            inputs[each.name] = torch.randint(2, shape, generator=random).to(each.dtype)
    return inputs


def _are_rows(
    together: tuple[Tensor | None, ...], rows: list[tuple[Tensor | None, ...]], size: int, other: int
) -> bool:
    """Whether the outputs of a batch are those that its rows gave one by one."""
    for index, output in enumerate(together):
        for number, row in enumerate(rows):
            alone = row[index]
            if output is None or alone is None:
                continue
            if output.dim() != alone.dim():
                return False
            axes = [axis for axis in range(output.dim()) if (output.shape[axis], alone.shape[axis]) == (other, size)]
            if len(axes) != 1 or not _is_same(output.select(axes[0], number), alone.select(axes[0], 0)):
                return False
    return True


def _is_same(given: Tensor, expected: Tensor) -> bool:
    if given.shape != expected.shape or not expected.numel():
        return given.shape == expected.shape
    tolerance = _TOLERANCE * (1 + float(expected.double().abs().nan_to_num().max()))
    return torch.allclose(given.double(), expected.double(), rtol=0, atol=tolerance, equal_nan=True)


def _other_sizes(program: Exported, least: int) -> Iterator[int]:
    """Prime numbers above this that the graph names nowhere, so that no axis has this size by accident."""
    taken = numbers_of(program.graph)
    return (size for size in _primes(least + 1) if size not in taken)


def _primes(least: int) -> Iterator[int]:
    return (
        number
        for number in count(least)
        if number > 1 and all(number % small for small in range(2, int(number**0.5) + 1))
    )
