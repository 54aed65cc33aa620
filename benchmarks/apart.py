"""A process beside this one, so that who asks and who measures do not share an interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context


@contextmanager
def process() -> Iterator[ProcessPoolExecutor]:
    """Runs functions of the benchmarks, one at a time."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool
