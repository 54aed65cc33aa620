"""A full trace beside the plain forward of `nn.LSTM`, which is cuDNN's on CUDA."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import library
from benchmarks.device.budget import Budget
from benchmarks.device.report import Row, Section
from benchmarks.interleaved import medians
from benchmarks.trace import Shape

HIDDEN, BATCHES, TIMES = (128, 256, 512, 1024), (1, 8, 64), (128, 512, 1024)
QUICK = (Shape(32, 1, 32), Shape(64, 8, 64))

ROUNDS = 15  # at most
LEAST_ROUNDS = 3
ROW_S = 4.0
"""Seconds after which a row has no further round."""

Way = Callable[[], object]


def measure(device: str, budget: Budget, *, quick: bool) -> Section:
    """One row for each shape, the smallest first, until the budget ends."""
    shapes = QUICK if quick else tuple(Shape(*axes) for axes in itertools.product(TIMES, BATCHES, HIDDEN))
    rows, skipped, taken = {}, [], None
    for shape in sorted(shapes, key=_work):
        # the work of a row before tells at most how long this one takes: a device is used better by larger ones
        expected = (LEAST_ROUNDS + 2) * taken[0] * max(1.0, _work(shape) / taken[1]) if taken else 0.0
        if expected >= budget.left:
            skipped.append(f"{shape.title}: {expected:.0f} s expected, {budget.left:.0f} s left")
            continue
        try:
            rows[shape], once = _row(shape, device)
        except torch.cuda.OutOfMemoryError:
            skipped.append(f"{shape.title}: out of memory")
            continue
        taken = once, _work(shape)
    note = (
        f"Time × batch × hidden on {device}, float32, input as wide as the hidden state; a trace is all six signals. "
        f"Medians of {LEAST_ROUNDS} to {ROUNDS} rounds, both in turns."
    )
    return Section(
        "trace", "A full trace over the plain forward", [rows[s] for s in shapes if s in rows], note, skipped
    )


def _work(shape: Shape) -> int:
    return shape.time * shape.batch * shape.hidden**2


def _row(shape: Shape, device: str) -> tuple[Row, float]:
    """And the seconds that both took together, once."""
    module, inputs = shape.made(device)
    ways: dict[str, Way] = {
        "forward": _finished(lambda: _forward(module, inputs), device),
        "trace": _finished(lambda: library.trace(module, inputs), device),
    }
    for way in ways.values():  # the first call of a shape makes kernels and probes
        way()
    began = time.perf_counter()
    for way in ways.values():
        way()
    once = time.perf_counter() - began
    rounds = max(LEAST_ROUNDS, min(ROUNDS, int(ROW_S / once)))
    seconds = medians(ways, rounds)
    return {
        "shape": shape.title,
        "backend": library.backend_of(module),
        "forward, ms": 1e3 * seconds["forward"],
        "trace, ms": 1e3 * seconds["trace"],
        "trace / forward": seconds["trace"] / seconds["forward"],
        "rounds": rounds,
    }, once


@torch.no_grad()
def _forward(module: nn.LSTM, inputs: Tensor) -> object:
    return module(inputs)


def _finished(way: Way, device: str) -> Way:
    """The same, until the device is done with it."""
    if device == "cpu":
        return way

    def run() -> None:
        way()
        torch.cuda.synchronize()

    return run
