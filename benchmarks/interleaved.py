"""Several ways in turns, so that whatever disturbs the machine disturbs them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def medians(ways: Mapping[str, Callable[[], object]], rounds: int = 15) -> dict[str, float]:
    """Median seconds of each way over so many rounds, each round running every way once, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if round_number:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def in_turns(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each way gives in every round, each round running every way once."""
    given: dict[str, list[T]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            given[name].append(way())
    return given
