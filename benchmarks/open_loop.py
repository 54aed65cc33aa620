"""An open loop: requests are sent at a constant rate, and latency counts from when each was meant to be sent.

A closed loop asks less of a server that is slow, and so hides how long everybody else would have waited.
"""

from __future__ import annotations

import asyncio
import selectors
import statistics
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table

from benchmarks import apart, form, server, subject, wrk
from benchmarks.connection import Connection, Refused
from benchmarks.interleaved import in_turns
from benchmarks.pace import Pace
from benchmarks.serving import checked

CONNECTIONS = 256
"""More are not opened; what is due when all of them wait for an answer waits, too, and that counts."""

SHARES = (0.5, 0.8)
"""Of the peak that the closed loop reaches."""

WARM_UP_S = 0.5
GRACE_S = 10.0
"""So long after the last request its answer may come."""

PERCENTILES = (50, 90, 99, 99.9)


class Sample(NamedTuple):
    """What came of one run."""

    rate: float  # answers a second
    latencies_ms: tuple[float, ...]  # at PERCENTILES


def measure(pace: Pace) -> list[Table]:
    """Percentiles of `gatescope serve` at shares of its peak, which is measured first."""
    wrk.needed()
    with tempfile.TemporaryDirectory() as folder, apart.process() as pool:
        subjects = subject.write(Path(folder))
        with server.gatescope(Path(folder)) as service:
            peaks, ways = {}, {}
            for name, network in subjects.items():
                request = checked(service, network, form.PREDICT)
                peaks[name] = wrk.run(service.url, [request], pace.seconds).rate
                for share in SHARES:
                    ways[name, share] = _way(pool, service.url, request.raw, share * peaks[name], pace.seconds)
            samples = in_turns({f"{name}, JSON|{share:.0%}": way for (name, share), way in ways.items()}, pace.rounds)
            return [_table(samples, pace)]


def _way(pool: ProcessPoolExecutor, url: str, request: bytes, rate: float, seconds: float) -> Callable[[], Sample]:
    return lambda: pool.submit(run, url, request, rate, seconds).result()


def run(url: str, request: bytes, rate: float, seconds: float) -> Sample:
    """Send this request so many times a second.

    Raises:
        Refused: an answer was not 200, or did not come.
    """
    # select() waits for microseconds; epoll only for milliseconds, in which several requests would become due at once
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_OpenLoop(request, rate, WARM_UP_S + seconds, runner.get_loop()).run(url))


class _OpenLoop:
    def __init__(self, request: bytes, rate: float, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._request, self._rate = request, rate
        self._count = int(rate * seconds)
        self._sent = self._answered = 0
        self._latencies = np.full(self._count, np.nan)
        self._idle: deque[Connection] = deque()
        self._number: dict[Connection, int] = {}  # of the request that each waits for
        self._end: asyncio.Future[None] = asyncio.Future(loop=loop)
        self._began = 0.0

    async def run(self, url: str) -> Sample:
        """Percentiles of what was sent after the warm-up."""
        loop = asyncio.get_running_loop()
        connections = [await Connection.open(url, self._take) for _ in range(CONNECTIONS)]
        self._idle.extend(connections)
        self._began = loop.time()
        self._send_what_is_due()
        try:
            async with asyncio.timeout(self._count / self._rate + GRACE_S):
                await self._end
        except TimeoutError:
            raise Refused(f"{self._count - self._answered} of {self._count} requests were not answered") from None
        finally:
            for connection in connections:
                connection.hang_up()
        took = loop.time() - self._began
        counted = self._latencies[int(WARM_UP_S * self._rate) :]
        return Sample(self._count / took, tuple(float(value) for value in np.percentile(counted, PERCENTILES)))

    def _due(self, number: int) -> float:
        return self._began + number / self._rate

    def _send_what_is_due(self) -> None:
        self._send_while_idle()
        if self._sent < self._count:
            loop = asyncio.get_running_loop()
            loop.call_at(max(self._due(self._sent), loop.time() + 1e-4), self._send_what_is_due)

    def _send_while_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._idle and self._sent < self._count and self._due(self._sent) <= now:
            connection = self._idle.pop()
            self._number[connection] = self._sent
            self._sent += 1
            connection.send(self._request)

    def _take(self, connection: Connection) -> None:
        if connection.failed is not None:
            if not self._end.done():
                self._end.set_exception(Refused(connection.failed))
            return
        number = self._number[connection]
        self._latencies[number] = 1e3 * (asyncio.get_running_loop().time() - self._due(number))
        self._answered += 1
        self._idle.append(connection)
        self._send_while_idle()
        if self._answered == self._count:
            self._end.set_result(None)


def _table(samples: Mapping[str, Sequence[Sample]], pace: Pace) -> Table:
    table = Table("open loop", "of the peak", "requests/s", *(f"p{percentile:g}, ms" for percentile in PERCENTILES))
    for title, runs in samples.items():
        rate = statistics.median(sample.rate for sample in runs)
        latencies = np.median([sample.latencies_ms for sample in runs], axis=0)
        table.add_row(*title.split("|"), f"{rate:,.0f}", *(f"{latency:.2f}" for latency in latencies))
    table.caption = f"medians of {pace.rounds} rounds of {pace.seconds} s each; latency from the intended send"
    return table
