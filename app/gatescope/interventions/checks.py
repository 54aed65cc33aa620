"""What interventions name is checked against the module and the batch, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import islice

import torch
from torch import Tensor

from gatescope.cells import Signal
from gatescope.errors import InvalidInput, Place
from gatescope.interventions.intervention import FIELD, OPERATIONS, SCOPES, Intervention
from gatescope.selection import MAX_PLACES
from gatescope.spec import Spec
from gatescope.tracing import Trace


def check(interventions: Sequence[Intervention], spec: Spec, lengths: Sequence[int], longest: int) -> None:
    """Refuse what does not fit.

    Args:
        interventions: in the order in which they are applied.
        spec: of the module.
        lengths: of the sequences.
        longest: time steps of the padded batch.

    Raises:
        InvalidInput: one names what the module or the batch does not have, does nothing or several things, or sets a
            signal to what it never is; every place is named.
    """
    wrong = (
        Place((FIELD, index, *place.loc), place.message)
        for index, each in enumerate(interventions)
        for place in _wrong(each, spec, lengths, longest)
    )
    if places := list(islice(wrong, MAX_PLACES)):
        raise InvalidInput.at(*places)


def _wrong(each: Intervention, spec: Spec, lengths: Sequence[int], longest: int) -> Iterator[Place]:
    names = list(_wrong_names(each, spec, len(lengths)))
    yield from names
    yield from _wrong_operation(each)
    if names or len(each.operations) != 1:
        return  # what else there is to say depends on these
    steps, rows = each.steps(longest), each.rows(len(lengths))
    ends = [lengths[row] for row in rows]
    if not steps or steps.start >= max(ends):
        has = f"the longest of its sequences has {max(ends):,} time steps"
        yield Place(("time",), f"{each.start}:{each.stop} holds no time step; {has}".replace("None", ""))
        return
    if each.freeze and each.signal not in spec.cell.states:
        yield from _wrong_freeze(each, rows, ends, steps)
    signal = next(signal for signal in spec.signals if signal.name == each.signal)
    if each.set is not None:
        yield from _outside(torch.tensor([each.set], dtype=torch.float64), signal, "set")
    if each.patch is not None:
        yield from _wrong_patch(each, signal, spec, (rows, ends, steps, longest, len(lengths)))


def _wrong_names(each: Intervention, spec: Spec, batch: int) -> Iterator[Place]:
    known = spec.cell.signal_names
    if each.signal not in known:
        near = get_close_matches(str(each.signal)[:100], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known)}"
        yield Place(("signal",), f"this {spec.cell.name.upper()} has no signal {str(each.signal)[:100]!r}; {hint}")
    if type(each.layer) is not int or not 0 <= each.layer < spec.num_layers:
        yield Place(("layer",), f"there is no layer {each.layer!r}; this model has 0 to {spec.num_layers - 1}")
    if each.direction not in spec.directions:
        has = ", ".join(map(repr, spec.directions))
        yield Place(("direction",), f"there is no direction {each.direction!r}; this model has {has}")
    if each.signal in known:
        yield from _wrong_indices("units", each.units, spec.signal_sizes[each.signal], f"{each.signal} has")
    yield from _wrong_indices("sequences", each.sequences, batch, "this batch has")
    if each.scope not in SCOPES:
        yield Place(("scope",), f"must be one of {', '.join(SCOPES)}, not {each.scope!r}")
    elif each.scope != "both" and each.signal != spec.cell.states[0]:
        yield Place(("scope",), f"goes with {spec.cell.states[0]} only: nothing above reads {each.signal}")


def _wrong_indices(field: str, given: Sequence[int] | None, count: int, has: str) -> Iterator[Place]:
    if given is None:
        return
    if not given:
        yield Place((field,), f"is empty; {has} 0 to {count - 1}")
    seen: set[int] = set()
    for index, value in enumerate(given):
        if type(value) is not int or not 0 <= value < count:
            yield Place((field, index), f"there is no {value!r}; {has} 0 to {count - 1}")
        elif value in seen:
            yield Place((field, index), f"{value} stands there twice")
        seen.add(value)


def _wrong_operation(each: Intervention) -> Iterator[Place]:
    stated = each.operations
    if len(stated) != 1:
        has = f"it states {', '.join(stated)}" if stated else "it states none"
        yield Place((), f"must state exactly one of {', '.join(OPERATIONS)}; {has}")
    for name in ("set", "scale", "shift"):
        value = getattr(each, name)
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            yield Place((name,), f"must be a finite number, not {value!r}")


def _wrong_freeze(each: Intervention, rows: Sequence[int], ends: Sequence[int], steps: range) -> Iterator[Place]:
    """A gate has no value before the first step that its direction reads."""
    is_reverse = each.direction == "reverse"
    for row, length in zip(rows, ends, strict=True):
        if steps.start < length and (steps.stop >= length if is_reverse else steps.start == 0):
            message = (
                f"{each.signal} has no value before step {length - 1 if is_reverse else 0}, the first that the "
                f"{each.direction} direction reads of sequence {row}: begin one step later"
            )
            yield Place(("freeze",), message.replace("later", "before the end") if is_reverse else message)
            return


def _wrong_patch(
    each: Intervention,
    signal: Signal,
    spec: Spec,
    edited: tuple[Sequence[int], Sequence[int], range, int, int],
) -> Iterator[Place]:
    rows, ends, steps, longest, batch = edited
    try:
        values = each.patched(spec, batch, longest)
    except (ValueError, TypeError) as error:
        yield Place(("patch",), str(error))
        return
    for index, (row, end) in enumerate(zip(rows, ends, strict=True)):
        read = values[index if len(values) > 1 else 0, : max(0, min(end, steps.stop) - steps.start)]
        if not bool(torch.isfinite(read).all()):
            is_short = isinstance(each.patch, Trace)
            what = "is of a sequence that ends before" if is_short else "has a number that is not finite for"
            yield Place(("patch",), f"{what} the steps that are edited of sequence {row}")
            return
        wrong = list(_outside(read, signal, "patch"))
        if wrong:
            yield wrong[0]
            return


def _outside(values: Tensor, signal: Signal, field: str) -> Iterator[Place]:
    low, high = values.amin().item() if values.numel() else 0, values.amax().item() if values.numel() else 0
    slack = 1e-6  # a patch of float32 may lie a rounding beyond
    for value, is_wrong in (
        (low, signal.low is not None and low < signal.low - slack),
        (high, signal.high is not None and high > signal.high + slack),
    ):
        if is_wrong and values.numel():
            ends = (
                "−∞" if signal.low is None else f"{signal.low:g}",
                "∞" if signal.high is None else f"{signal.high:g}",
            )
            yield Place((field,), f"{value:g} is outside of what {signal.name} can be, {' to '.join(ends)}")
            return
