"""What answering over HTTP costs: beside a server that does nothing, and beside the network alone."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import form, ratio, server, subject, wrk
from benchmarks.form import Form, Request
from benchmarks.interleaved import in_turns
from benchmarks.pace import Pace
from benchmarks.server import Server
from benchmarks.subject import Subject
from benchmarks.wrk import Load

RAGGED = 64
"""Sequences of different lengths that are sent in turn."""

ALONE = "one connection"
"""Ends the names of the ways whose latency counts, not their rate."""

Way = Callable[[], Load]


class Row(NamedTuple):
    """A ratio of two ways."""

    what: str
    over: str
    under: str
    goal: str
    measure: Callable[[Load], float] = lambda load: load.rate


ROWS = (
    Row("small, JSON: requests/s over bare uvicorn's", "small, JSON", "small, bare uvicorn", "≥ 0.2"),
    Row("larger, JSON: sequences/s over in process", "larger, JSON", "larger, in process", "≥ 0.55"),
    Row("small, JSON: sequences/s over in process", "small, JSON", "small, in process", ""),
    Row("larger, JSON: requests/s over bare uvicorn's", "larger, JSON", "larger, bare uvicorn", ""),
    Row("small, ragged over fixed lengths", "small, ragged JSON", "small, JSON", "≥ 0.8"),
    Row("larger, ragged over fixed lengths", "larger, ragged JSON", "larger, JSON", "≥ 0.8"),
    Row("small, safetensors over JSON", "small, safetensors", "small, JSON", ""),
    Row("larger, safetensors over JSON", "larger, safetensors", "larger, JSON", "≥ 1.5"),
    Row("small, /v2 binary over JSON", "small, /v2 binary", "small, JSON", ""),
    Row("larger, /v2 binary over JSON", "larger, /v2 binary", "larger, JSON", "≥ 1.5"),
    Row("larger, full binary trace over prediction, JSON", "larger, trace", "larger, JSON", "≥ 0.5"),
    Row("larger, full binary trace over prediction, binary", "larger, trace", "larger, safetensors", ""),
    Row(
        "small, JSON, one connection: p50 over bare uvicorn's",
        "small, JSON, one connection",
        "small, bare uvicorn, one connection",
        "",
        lambda load: load.p50_ms,
    ),
)
TAILS = {"small, JSON": "≤ 4", "larger, JSON": "≤ 4", "small, bare uvicorn": ""}
"""Ways of which the p99 is compared with the p50, and how much of it is wanted."""


def measure(pace: Pace) -> list[Table]:
    """Ratios, and the rates behind them, of `gatescope serve` in one process."""
    wrk.needed()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        subjects = subject.write(Path(folder))
        service = servers.enter_context(server.gatescope(Path(folder)))
        bare = servers.enter_context(server.bare())
        ways = _ways(subjects, service, bare, pace.seconds)
        turns = {way: partial(_announced, run, way) for way, run in ways.items()}
        return _tables(in_turns(turns, pace.rounds), pace)


def _announced(run: Way, way: str) -> Load:
    Console(stderr=True).print(f"  {way}", style="dim")
    return run()


def _ways(subjects: Mapping[str, Subject], service: Server, bare: Server, seconds: int) -> dict[str, Way]:
    ways: dict[str, Way] = {}

    def ask(way: str, url: str, requests: Sequence[Request], connections: int = wrk.CONNECTIONS) -> None:
        ways[way] = partial(wrk.run, url, requests, seconds, connections)

    for name, network in track(subjects.items(), "checking answers", console=Console(stderr=True), transient=True):
        fixed = form.PREDICT.request(name, network.inputs())
        ask(f"{name}, bare uvicorn", bare.url, [fixed])
        ways |= served(service, network, seconds)
        ask(f"{name}, bare uvicorn, {ALONE}", bare.url, [fixed], 1)
        ways[f"{name}, in process"] = partial(_alone, network, seconds / 2)
    return ways


def served(service: Server, network: Subject, seconds: int) -> dict[str, Way]:
    """The ways to ask the service for this network, once its answers are known to be right."""
    fixed = [checked(service, network, form.PREDICT)]
    asked = {
        "JSON": fixed,
        "ragged JSON": _ragged(service, network),
        "safetensors": [checked(service, network, form.PREDICT_BINARY)],
        "/v2 JSON": [checked(service, network, form.INFER)],
        "/v2 binary": [checked(service, network, form.INFER_BINARY)],
        "trace": [trace_request(service, network)],
    }
    ways: dict[str, Way] = {
        f"{network.name}, {way}": partial(wrk.run, service.url, requests, seconds) for way, requests in asked.items()
    }
    ways[f"{network.name}, JSON, {ALONE}"] = partial(wrk.run, service.url, fixed, seconds, 1)
    return ways


def checked(service: Server, network: Subject, asked: Form, inputs: np.ndarray | None = None) -> Request:
    """The request for a sequence, once the answer to it is known to be the network's own."""
    inputs = network.inputs() if inputs is None else inputs
    request = asked.request(network.name, inputs)
    service.check(request, asked.decode, network.answer(inputs))
    return request


def _ragged(service: Server, network: Subject) -> list[Request]:
    """Lengths in [T/2, T]."""
    longest = network.sizes.steps
    lengths = np.random.default_rng(0).integers(longest // 2, longest, RAGGED, endpoint=True)
    sequences = (network.inputs(int(length), seed) for seed, length in enumerate(lengths))
    return [checked(service, network, form.PREDICT, inputs) for inputs in sequences]


def trace_request(service: Server, network: Subject) -> Request:
    """All six signals, of which the hidden states of the top layer are `nn.LSTM`'s output."""
    inputs = network.inputs()
    request = form.TRACE_BINARY.request(network.name, inputs)
    service.check(request, form.TRACE_BINARY.decode, network.output(inputs))
    return request


def _alone(network: Subject, seconds: float) -> Load:
    rate = network.rate(seconds)
    each_ms = 1e3 * subject.BATCH / rate
    return Load(rate, each_ms, each_ms)


def _tables(loads: Mapping[str, Sequence[Load]], pace: Pace) -> list[Table]:
    ratios = Table("over HTTP", "median", "least to most", "goal")
    for row in ROWS:
        over, under = ([row.measure(load) for load in loads[way]] for way in (row.over, row.under))
        ratios.add_row(row.what, *ratio.shown(ratio.each(over, under)), row.goal)
    for way, goal in TAILS.items():
        tail = [load.p99_ms / load.p50_ms for load in loads[way]]
        ratios.add_row(f"{way}, {wrk.CONNECTIONS} connections: p99 over p50", *ratio.shown(tail), goal)
    ratios.caption = (
        f"{pace.rounds} rounds of {pace.seconds} s each, {wrk.CONNECTIONS} connections where none are named"
    )
    return [ratios, rates(loads)]


def rates(loads: Mapping[str, Sequence[Load]]) -> Table:
    """Medians of all ways."""
    table = Table("way", "sequences/s", "p50, ms", "p99, ms")
    for way, measured in loads.items():
        median = (statistics.median(getattr(load, name) for load in measured) for name in ("rate", "p50_ms", "p99_ms"))
        rate, p50_ms, p99_ms = median
        table.add_row(way, f"{rate:,.0f}", f"{p50_ms:.2f}", f"{p99_ms:.2f}")
    return table
