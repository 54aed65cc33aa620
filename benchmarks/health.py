"""`watch`: how long `/health/live` takes to answer while something else happens, asked over a connection of its own."""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np

ASK_AGAIN_S = 0.05
TIMEOUT_S = 10.0


@dataclass
class Health:
    """Seconds that each answer took; one that did not come counts with the time until it was given up."""

    waits: list[float] = field(default_factory=list)
    failures: int = 0

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.waits)

    @property
    def p99(self) -> float:
        """Seconds."""
        return float(np.percentile(self.waits, 99))

    @property
    def longest(self) -> float:
        """Seconds."""
        return max(self.waits)

    def __str__(self) -> str:
        if not self.waits:
            return "/health/live was not asked"
        told = f"median {self.median * 1000:.1f} ms, p99 {self.p99 * 1000:.0f} ms, longest {self.longest * 1000:.0f} ms"
        return f"/health/live: {told}; {self.failures} of {len(self.waits)} failed"


@contextmanager
def watch(url: str, health: Health) -> Iterator[None]:
    """Ask from another thread until the block ends, and note every answer in `health`."""
    is_over = threading.Event()
    thread = threading.Thread(target=_ask, args=(url, health, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(2 * TIMEOUT_S)


def _ask(url: str, health: Health, is_over: threading.Event) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)
    while not is_over.wait(ASK_AGAIN_S):
        began = time.perf_counter()
        try:
            connection.request("GET", "/health/live")
            reply = connection.getresponse()
            reply.read()
            health.failures += reply.status != 200
        except (OSError, http.client.HTTPException):
            health.failures += 1
            connection.close()  # the next request opens it again
        health.waits.append(time.perf_counter() - began)
    connection.close()
