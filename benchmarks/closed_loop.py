"""A closed loop: every connection sends its next request when its last is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import uvloop

from benchmarks.connection import Connection, Refused

WARM_UP_S = 0.5


def rate(url: str, requests: Sequence[bytes], seconds: float) -> float:
    """Answers a second, with one connection for each of these requests, which sends it over and over.

    Raises:
        Refused: an answer was not 200, or none came.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_rate(url, requests, seconds))


async def _rate(url: str, requests: Sequence[bytes], seconds: float) -> float:
    answers = 0
    request_of: dict[Connection, bytes] = {}
    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(connection: Connection) -> None:
        nonlocal answers
        if connection.failed is None:
            answers += 1
            connection.send(request_of[connection])
        elif not failure.done():
            failure.set_exception(Refused(connection.failed))

    for request in requests:
        request_of[await Connection.open(url, answered)] = request
    for connection, request in request_of.items():
        connection.send(request)
    try:
        await _unless(failure, WARM_UP_S)
        before, began = answers, time.perf_counter()
        await _unless(failure, seconds)
        if answers == before:
            raise Refused(f"there was no answer within {seconds} s")
        return (answers - before) / (time.perf_counter() - began)
    finally:
        failure.cancel()
        for connection in request_of:
            connection.hang_up()


async def _unless(failure: asyncio.Future[None], seconds: float) -> None:
    """Wait so long; raise what failed meanwhile."""
    done, _ = await asyncio.wait([failure], timeout=seconds)
    for failed in done:
        failed.result()
