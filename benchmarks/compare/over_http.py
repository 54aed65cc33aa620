"""The tables over HTTP: the server of a checkout, and the clients of this one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import apart, server, subject, wrk
from benchmarks import serving as serving_table
from benchmarks import sessions as sessions_table
from benchmarks.checkout import Checkout
from benchmarks.serving import ALONE, Way

Speeds = Mapping[str, Callable[[], float]]


@contextmanager
def serving(checkout: Checkout, seconds: float) -> Iterator[Speeds]:
    """Requests a second; over one connection, those that fit into the median latency."""
    wrk.needed()
    with tempfile.TemporaryDirectory() as folder:
        networks = subject.write(Path(folder))
        with server.gatescope(Path(folder), checkout=checkout) as service:
            yield {
                title: partial(_speed, way, title)
                for network in networks.values()
                for title, way in serving_table.served(service, network, int(seconds)).items()
            }


def _speed(way: Way, title: str) -> float:
    load = way()
    return 1000 / load.p50_ms if title.endswith(ALONE) else load.rate


@contextmanager
def sessions(checkout: Checkout, seconds: float) -> Iterator[Speeds]:
    """Steps a second of one session and of many at once."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        networks = subject.write(Path(folder), sessions_table.NETWORKS)
        service = stack.enter_context(server.gatescope(Path(folder), checkout=checkout))
        pool = stack.enter_context(apart.process())
        for network in networks.values():
            sessions_table.check(service, network)
        yield {
            f"{network.name}, {count}": sessions_table.over_http(pool, service, network, count, seconds)
            for network in networks.values()
            for count in (1, sessions_table.MANY)
        }
