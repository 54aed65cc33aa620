"""`python -m benchmarks hostile`: what clients that misbehave do to the service's memory and to its health check."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import apart, attackers, health, server, subject, usage
from benchmarks.console import console as wide_console
from benchmarks.health import Health
from benchmarks.trend import Trend

WAVE_S = 10.0
"""Clients come in waves of this length; all of them have left at the end of each."""

SAMPLE_S = 1.0
WARM_UP = 0.3
"""The share of the time after which the slope of the memory counts: caches and allocators fill before."""

SETTLE_S = 5.0
MOST_MB = 4000
"""Nothing more is asked of a server with this much memory, for the machine's sake."""

ROWS = 12


@dataclass
class Memory:
    """RSS of the server over time."""

    times: list[float] = field(default_factory=list)  # seconds since the first client
    megabytes: list[float] = field(default_factory=list)

    def slope(self, ends: float) -> Trend | None:
        """MB a minute, after the warm-up and until `ends`."""
        kept = [
            (at / 60, mb) for at, mb in zip(self.times, self.megabytes, strict=True) if WARM_UP * ends <= at <= ends
        ]
        return Trend.of(*zip(*kept, strict=True)) if kept else None


def main(
    *,
    minutes: Annotated[float, typer.Option(min=0.05, max=120, help="How long clients come.")] = 10,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the results.")] = None,
) -> None:
    """Ask as clients that leave, expire, pipeline, stall and do not read; print memory and health of the service."""
    memory, live, asked = Memory(), Health(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder, apart.process() as pool:
        networks = subject.write(Path(folder), ("small",))
        with server.gatescope(Path(folder)) as service:
            requests = attackers.Requests.of(networks["small"])
            began = time.monotonic()
            with _sampled(service.pid, began, memory), health.watch(service.url, live):
                while (left := began + 60 * minutes - time.monotonic()) > 0 and memory.megabytes[-1] < MOST_MB:
                    asked += pool.submit(attackers.attack, service.url, requests, min(WAVE_S, left)).result()
                ended = time.monotonic() - began
                time.sleep(SETTLE_S)
    _report(wide_console(), memory, live, asked, ended)
    if out is not None:
        out.write_text(json.dumps(_results(memory, live, asked, ended), indent=1) + "\n", encoding="utf-8")


@contextmanager
def _sampled(pid: int, began: float, memory: Memory) -> Iterator[None]:
    """Note the memory now, every second, and at the end."""
    is_over = threading.Event()

    def note() -> None:
        memory.times.append(time.monotonic() - began)
        memory.megabytes.append(usage.rss_mb(pid))

    def sample() -> None:
        while not is_over.wait(SAMPLE_S):
            note()

    note()
    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    note()


def _report(console: Console, memory: Memory, live: Health, asked: Counter[str], ended: float) -> None:
    table = Table("clients came for, s", "RSS, MB")
    every = max(1, len(memory.times) // ROWS)
    for at, megabytes in [*zip(memory.times, memory.megabytes, strict=True)][::every]:
        table.add_row(f"{at:.0f}", f"{megabytes:.0f}")
    table.caption = f"{memory.megabytes[-1]:.0f} MB {SETTLE_S:g} s after the last client left"
    console.print(table)
    slope = memory.slope(ended)
    if slope is not None:
        console.print(f"slope after {WARM_UP:.0%} of the time: {slope.slope:+.2f} ± {slope.error:.2f} MB a minute")
    console.print(str(live))
    console.print(", ".join(f"{kind}: {count:,}" for kind, count in asked.items()))
    if max(memory.megabytes) >= MOST_MB:
        console.print(f"stopped at {MOST_MB} MB")


def _results(memory: Memory, live: Health, asked: Counter[str], ended: float) -> dict[str, object]:
    slope = memory.slope(ended)
    return {
        "seconds": memory.times,
        "rss_mb": memory.megabytes,
        "slope_mb_per_minute": slope and slope.slope,
        "slope_standard_error": slope and slope.error,
        "health_median_s": live.median,
        "health_p99_s": live.p99,
        "health_longest_s": live.longest,
        "health_failures": live.failures,
        "asked": dict(asked),
    }
