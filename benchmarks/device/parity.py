"""Every trace backend against the equations in float64, and against `nn.LSTM` itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import library
from benchmarks.device.budget import Budget
from benchmarks.device.report import Row, Section

TOLERANCE = 1e-4
"""Far above float32's rounding here, far below what a wrong gate would differ by."""

INPUT_SIZE, TIME = 7, 48
LENGTHS = (48, 31, 1, 20)


class Case(NamedTuple):
    """One point of the grid."""

    hidden: int
    layers: int
    directions: int
    proj_size: int
    is_ragged: bool

    def module(self) -> nn.LSTM:
        """Seeded, on the CPU."""
        torch.manual_seed(0)
        sizes = INPUT_SIZE, self.hidden, self.layers
        both = self.directions == 2
        return nn.LSTM(*sizes, batch_first=True, bidirectional=both, proj_size=self.proj_size).eval()

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of the rows."""
        return LENGTHS if self.is_ragged else (TIME,) * len(LENGTHS)


class Distances(NamedTuple):
    """The largest absolute differences of a trace."""

    signals: float  # from the equations in float64
    output: float  # from `nn.LSTM`'s output, each row alone
    final_state: float  # from `nn.LSTM`'s (h_n, c_n)


Oracle = Callable[[Case], list[dict[str, Tensor]]]


def _grid(*, quick: bool) -> list[Case]:
    hidden, layers = ((20,), (1, 2)) if quick else ((20, 128), (1, 3))
    axes = itertools.product(hidden, layers, (1, 2), (0, 6), (False, True))
    return [Case(*axis) for axis in axes]


class Place(NamedTuple):
    """Where traces are made, and whether cuDNN may round to TF32 there."""

    title: str
    device: str
    tf32: bool
    is_strict: bool = True
    """Whether a difference is a failure; PyTorch's own choice of precision makes it a finding."""


def _places() -> Iterator[Place]:
    default = torch.backends.cudnn.allow_tf32
    yield Place("cpu", "cpu", default)
    if torch.cuda.is_available():
        yield Place("cuda, TF32 off", "cuda", tf32=False)
        yield Place("cuda, PyTorch's defaults", "cuda", default, is_strict=False)


@dataclass
class Found:
    """What came of all cases with one backend in one place."""

    distances: list[Distances] = field(default_factory=list)
    chosen: int = 0
    failures: list[str] = field(default_factory=list)
    left_out: int = 0


def measure(budget: Budget, *, quick: bool) -> Section:
    """One row for each device and backend: the worst of all cases."""
    grid = _grid(quick=quick)
    rows: list[Row] = []
    skipped: list[str] = []
    oracle = cache(_oracle)
    for place in _places():
        library.forget_probes()
        for backend in library.backends():
            with _tf32(allowed=place.tf32):
                found = _found(place, backend, grid, oracle, budget)
            if found.distances or found.failures:
                rows.append(_row(place, backend, found))
            skipped += [f"{place.title}, {backend}: {failure}" for failure in found.failures]
            if found.left_out:
                skipped.append(f"{place.title}, {backend}: the budget ended before {found.left_out} cases")
    note = (
        f"Largest absolute differences over {len(grid)} cases: hidden size, layers, directions, proj_size, ragged or "
        f"not. A backend is right within {TOLERANCE:g}. A module chooses the first backend whose probe succeeds."
    )
    return Section("parity", "Parity of the trace backends", rows, note, skipped)


def _found(place: Place, backend: str, grid: Sequence[Case], oracle: Oracle, budget: Budget) -> Found:
    found = Found()
    for case in grid:
        if budget.left == 0:
            found.left_out += 1
            continue
        module = case.module().to(place.device)
        if not library.can_run(backend, module):
            continue
        found.chosen += library.backend_of(module) == backend
        try:
            found.distances.append(_distances(backend, case, module, oracle(case)))
        except RuntimeError as error:
            found.failures.append(f"{case} failed with {error}"[:300])
    return found


def _row(place: Place, backend: str, found: Found) -> Row:
    signals, output, final_state = [max(column) for column in zip(*found.distances, strict=True)] or [None] * 3
    worst = max(each if each is not None else float("inf") for each in (signals, output, final_state))
    is_right = not found.failures and worst <= TOLERANCE
    return {
        "device": place.title,
        "backend": backend,
        "cases": len(found.distances) + len(found.failures),
        "of these chosen": found.chosen,
        "failed": len(found.failures),
        "signals from float64": signals,
        "output from nn.LSTM": output,
        "final state from nn.LSTM": final_state,
        "ok": is_right if place.is_strict or is_right else None,
    }


def _inputs(case: Case) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(len(case.lengths), TIME, INPUT_SIZE, generator=random)


def _oracle(case: Case) -> list[dict[str, Tensor]]:
    """Of every row, by the equations in float64."""
    module, rows = case.module(), zip(_inputs(case).double(), case.lengths, strict=True)
    with torch.no_grad():
        return [library.reference(module, row[:length]) for row, length in rows]


@torch.no_grad()
def _distances(backend: str, case: Case, module: nn.LSTM, oracle: list[dict[str, Tensor]]) -> Distances:
    inputs = _inputs(case).to(next(module.parameters()).device)
    with library.forced(backend):
        traced = library.trace(module, inputs, list(case.lengths))
    worst = Distances(0.0, 0.0, 0.0)
    for row, length in enumerate(case.lengths):
        output, state = module(inputs[row : row + 1, :length])
        final = [part[:, row : row + 1] for part in _states(traced)]
        here = Distances(
            max(_apart(values[row, :, :, :length], oracle[row][name]) for name, values in traced.signals.items()),
            _apart(traced.output[row, :length], output[0]),
            max(map(_apart, final, state)),
        )
        worst = Distances(*map(max, worst, here))
    return worst


def _states(traced: Any) -> tuple[Tensor, Tensor]:
    return traced.final_state.hidden_state, traced.final_state.cell_state


def _apart(given: Tensor, expected: Tensor) -> float:
    difference = float((given.cpu().double() - expected.cpu().double()).abs().max())
    return difference if difference == difference else float("inf")  # noqa: PLR0124 - NaN is a difference, too


@contextmanager
def _tf32(*, allowed: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
