"""What a time step costs: forward, training and traced, of the three networks in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import ratio
from benchmarks.interleaved import in_turns
from gatescope import trace
from studies.claims.learning import Report
from studies.claims.networks import Make, parameters_of, units_like_lstm
from studies.claims.setup import machine

INPUTS = 8
LEAST_S = 0.01
"""A measurement repeats its work until it takes so long."""

MODULES: dict[str, Make] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
WAYS = ("forward", "training", "traced", "forward without oneDNN", "training without oneDNN")
"""PyTorch has a oneDNN kernel of the LSTM alone; without it, all three run in the same loop over the time steps."""


class Shape(NamedTuple):
    """What is run."""

    units: int  # of the LSTM; of the others, too, where sizes are equal
    batch: int
    time: int


SHAPES = (Shape(32, 1, 1), Shape(32, 1, 100), Shape(32, 32, 100), Shape(128, 1, 100), Shape(128, 32, 100))


def measure(report: Report, shapes: tuple[Shape, ...] = SHAPES, rounds: int = 21) -> dict[str, Any]:
    """CPU seconds of every network in turns, of the same hidden size and of the same number of parameters.

    Returns:
        `runs`: for each shape, size and way, each network's microseconds a time step (the median) and their ratio to
        the plain network's of the same round: the median, and the quarter and three quarters of the rounds.
    """
    runs = []
    for shape in shapes:
        for equal in ("units", "parameters"):
            for way in WAYS:
                runs.append(_compared(shape, equal, way, rounds))
                report(f"{shape}, equal {equal}, {way}: {runs[-1]['ratio']}")
    return {"setup": machine() | {"inputs": INPUTS, "rounds": rounds}, "runs": runs}


def _compared(shape: Shape, equal: str, way: str, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    inputs = torch.randn(shape.batch, shape.time, INPUTS)
    modules = {name: _module(kind, shape.units, equal) for name, kind in MODULES.items()}
    works = {name: _work(way, module, inputs) for name, module in modules.items()}
    with _onednn(enabled="without" not in way):
        seconds = in_turns({name: partial(_cpu_s, work, _repeats(work)) for name, work in works.items()}, rounds)
    return {
        **shape._asdict(),
        "equal": equal,
        "way": way,
        "hidden_size": {name: module.hidden_size for name, module in modules.items()},
        "parameters": {name: parameters_of(module) for name, module in modules.items()},
        "us_per_step": {name: round(_quartiles(taken)[1] / shape.time * 1e6, 2) for name, taken in seconds.items()},
        "ratio": {name: _ratio(seconds[name], seconds["rnn"]) for name in ("gru", "lstm")},
    }


@contextmanager
def _onednn(*, enabled: bool) -> Iterator[None]:
    """Whether PyTorch may call oneDNN; `torch.backends.mkldnn.flags` warns of what it sets beside."""
    before = torch.backends.mkldnn.set_flags(enabled)[0]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(before)  # type: ignore[no-untyped-call]


def _module(kind: Make, units: int, equal: str) -> nn.RNNBase:
    size = units if equal == "units" else units_like_lstm(kind, INPUTS, units)
    return kind(INPUTS, size, batch_first=True)


def _work(way: str, module: nn.RNNBase, inputs: Tensor) -> Callable[[], object]:
    """One run over the inputs, whatever its kernel."""

    def forward() -> object:
        with torch.no_grad():
            return module(inputs)

    def training() -> object:
        module.zero_grad()
        return module(inputs)[0].mean().backward()

    def traced() -> object:
        with torch.no_grad():
            return trace(module, inputs)

    ways: dict[str, Callable[[], object]] = {"forward": forward, "training": training, "traced": traced}
    return ways[way.partition(" ")[0]]


def _repeats(work: Callable[[], object]) -> int:
    """How often it is run in a measurement; it is also run here to warm up."""
    work()
    return max(1, round(LEAST_S / _cpu_s(work, 3)))


def _cpu_s(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of one run in this process, which other processes disturb less than they do the clock."""
    started = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - started) / repeats


def _ratio(over: list[float], under: list[float]) -> list[float]:
    return [round(each, 2) for each in _quartiles(ratio.each(over, under))]


def _quartiles(values: list[float]) -> list[float]:
    """The quarter, the median, and three quarters."""
    quartiles: list[float] = (
        torch.tensor(values, dtype=torch.float64)
        .quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
        .tolist()
    )
    return quartiles
