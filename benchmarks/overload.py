"""`python -m benchmarks overload`: more clients than the queue holds, each of which asks again once it is refused."""

from __future__ import annotations

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import form, health, server, subject, usage, wrk
from benchmarks.console import console as wide_console
from benchmarks.form import Request
from benchmarks.health import Health
from benchmarks.server import DidNotStart, Server, WrongAnswer
from benchmarks.serving import checked
from benchmarks.subject import Subject
from benchmarks.wrk import Failed, Missing, Statuses

MODERATE = (32, 64)
"""Connections whose requests all fit into the queue; the better of these is the peak."""

LEAST_GOODPUT, MOST_COST, MOST_WAIT_S = 0.8, 1.5, 0.3

ONLY_ONE = {"GATESCOPE_MAX_QUEUE_SIZE": "1", "GATESCOPE_ADMISSION_WAIT_MS": "0"}
FEW, MANY = 2, 64
"""Connections to a queue of one: with few of them some are answered, with many nearly all are refused."""

CROWD_TAKES = 2
"""A crowd is measured for so many times as long as the peak: it takes a while until all are connected."""

CALM_ATTEMPTS, CALM_S = 100, 0.1

SHORT = 10  # steps of a long computation: as large a body as the small network's

OPEN_FILES = 8192


@dataclass(frozen=True)
class Crowd:
    """So many clients, and what the service has for them."""

    connections: int
    environment: dict[str, str]

    def __str__(self) -> str:
        queue = self.environment.get("GATESCOPE_MAX_QUEUE_SIZE", "default")
        return f"{self.connections:,} clients, queue {queue}"


CROWDS = (Crowd(512, {"GATESCOPE_MAX_QUEUE_SIZE": "64"}), Crowd(3000, {}))


@dataclass
class Overloaded:
    """What came of one crowd, round by round."""

    peaks: list[float] = field(default_factory=list)  # 200s a second with moderate concurrency
    runs: list[Statuses] = field(default_factory=list)
    live: Health = field(default_factory=Health)

    @property
    def goodput(self) -> float:
        """200s a second over the peak: the median of the rounds."""
        return statistics.median(run.answered / peak for run, peak in zip(self.runs, self.peaks, strict=True))


@dataclass(frozen=True)
class Cost:
    """CPU time of the event loop's thread, microseconds a request, round by round."""

    refusal: list[float]
    bare: list[float]

    @property
    def ratio(self) -> float:
        """A 429 over bare uvicorn's reply: the median of the rounds."""
        return statistics.median(refusal / bare for refusal, bare in zip(self.refusal, self.bare, strict=True))


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 3,
    seconds: Annotated[int, typer.Option(min=1, help="How long each measurement is.")] = 4,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the results.")] = None,
) -> None:
    """Print goodput under overload, what a 429 costs, and how long the health check waits; exit with 1 if one fails."""
    console = wide_console()
    _allow_open_files()
    try:
        with tempfile.TemporaryDirectory() as folder:
            networks = subject.write(Path(folder), (*subject.ASKED, "wide"))
            results = {
                f"{name}, {crowd}": overload(networks[name], Path(folder), crowd, rounds, seconds)
                for name in subject.ASKED
                for crowd in CROWDS
            }
            cost = refusals(networks["wide"], Path(folder), rounds, seconds)
    except (Missing, DidNotStart, Failed, WrongAnswer) as error:
        console.print(f"not measured: {error}")
        raise typer.Exit(2) from error
    console.print(_table(results, rounds, seconds))
    refusal, bare = (statistics.median(each) for each in (cost.refusal, cost.bare))
    console.print(f"a 429 costs {refusal:.1f} µs, bare uvicorn's reply {bare:.1f} µs: {cost.ratio:.2f} (≤ {MOST_COST})")
    missed = list(_missed(results, cost))
    console.print("\n".join(missed) or "all goals are met")
    if out is not None:
        told = {title: asdict(result) | {"goodput": result.goodput} for title, result in results.items()}
        told["cost"] = asdict(cost) | {"ratio": cost.ratio, "missed": missed}
        out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if missed:
        raise typer.Exit(1)


def _allow_open_files() -> None:
    """Let this process and those that it starts have as many connections as are needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def overload(network: Subject, models: Path, crowd: Crowd, rounds: int, seconds: int) -> Overloaded:
    """Each round measures the peak and then the crowd."""
    result = Overloaded()
    with server.gatescope(models, crowd.environment) as service:
        request = [checked(service, network, form.PREDICT)]
        for number in range(rounds):
            Console(stderr=True).print(f"  {network.name}, {crowd}, round {number + 1} of {rounds}", style="dim")
            _wait_until_answered(service, request[0])
            peaks = (wrk.statuses(service.url, request, seconds, connections) for connections in MODERATE)
            result.peaks.append(max(peak.answered for peak in peaks))
            with health.watch(service.url, result.live):
                result.runs.append(wrk.statuses(service.url, request, CROWD_TAKES * seconds, crowd.connections))
    return result


def _wait_until_answered(service: Server, request: Request) -> None:
    """Let the service be done with the crowd before."""
    for _ in range(CALM_ATTEMPTS):
        if service.post(request).status_code == 200:
            return
        time.sleep(CALM_S)


def refusals(network: Subject, models: Path, rounds: int, seconds: int) -> Cost:
    """What a 429 costs the event loop's thread beside bare uvicorn's constant reply to the same request."""
    cost = Cost([], [])
    with server.gatescope(models, ONLY_ONE) as service, server.bare() as bare:
        request = [checked(service, network, form.PREDICT, network.inputs(SHORT))]
        for number in range(rounds):
            Console(stderr=True).print(f"  the cost of a 429, round {number + 1} of {rounds}", style="dim")
            measured = [_used(service, request, seconds, connections) for connections in (FEW, MANY)]
            cost.refusal.append(_cost_of_refusal(*measured))
            used_s, run = _used(bare, request, seconds, MANY)
            cost.bare.append(1e6 * used_s / (run.answered * run.seconds))
    return cost


def _used(asked: Server, request: Sequence[Request], seconds: int, connections: int) -> tuple[float, Statuses]:
    """CPU seconds of the event loop's thread meanwhile, and what was answered."""
    before = usage.main_thread_cpu_s(asked.pid)
    run = wrk.statuses(asked.url, request, seconds, connections)
    return usage.main_thread_cpu_s(asked.pid) - before, run


def _cost_of_refusal(few: tuple[float, Statuses], many: tuple[float, Statuses]) -> float:
    """Microseconds: two runs with different shares of 200 and 429 give the costs of both.

    Raises:
        Failed: nothing was refused.
    """
    if not many[1].refused:
        raise Failed("a queue of one refused nothing")
    counts = [[run.answered * run.seconds, run.refused * run.seconds] for _, run in (few, many)]
    _, refusal = np.linalg.lstsq(np.array(counts), np.array([few[0], many[0]]), rcond=None)[0]
    return float(1e6 * refusal)


def _missed(results: dict[str, Overloaded], cost: Cost) -> Iterator[str]:
    for title, result in results.items():
        if result.goodput < LEAST_GOODPUT:
            yield f"{title}: the goodput {result.goodput:.2f} is below {LEAST_GOODPUT}"
        if result.live.longest >= MOST_WAIT_S:
            yield f"{title}: /health/live took {result.live.longest:.2f} s; the goal is less than {MOST_WAIT_S} s"
    if cost.ratio > MOST_COST:
        yield f"a 429 costs {cost.ratio:.2f} of bare uvicorn's reply; the goal is at most {MOST_COST}"


def _table(results: dict[str, Overloaded], rounds: int, seconds: int) -> Table:
    goals = f"(≥ {LEAST_GOODPUT})", f"(< {MOST_WAIT_S * 1000:.0f})"
    table = Table(
        "overload", "peak, 200/s", "200/s", "429/s", "other/s", "lost/s", f"200 / peak {goals[0]}",
        "live: p99, ms", f"longest, ms {goals[1]}",
    )  # fmt: skip
    for title, result in results.items():
        rates = (
            statistics.median(getattr(run, name) for run in result.runs)
            for name in ("answered", "refused", "other", "lost")
        )
        waits = f"{result.live.p99 * 1000:.0f}", f"{result.live.longest * 1000:.0f}"
        peak = f"{statistics.median(result.peaks):,.0f}"
        table.add_row(title, peak, *(f"{rate:,.0f}" for rate in rates), f"{result.goodput:.2f}", *waits)
    lasts = f"{rounds} rounds of {seconds} s each, of {CROWD_TAKES * seconds} s under overload"
    table.caption = f"{lasts}; who is refused asks again at once"
    return table
