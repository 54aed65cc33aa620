"""Steps a second of many sessions at once, over those of one: what it brings to compute them together."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import torch
from rich.table import Table

from benchmarks import apart, closed_loop, form, ratio, server, subject
from benchmarks.form import Request
from benchmarks.interleaved import in_turns
from benchmarks.pace import Pace
from benchmarks.server import Server
from benchmarks.subject import Subject
from gatescope.pipeline.query import Query
from gatescope.server.repository.repository import Repository
from gatescope.server.serving.local import LocalEngine
from gatescope.server.serving.session_stores.memory import MemoryStore
from gatescope.server.serving.sessions import Sessions

MANY = 256
NETWORKS = ("larger", "wide")
TOGETHER = 256
"""The default of `GATESCOPE_MAX_BATCH_SIZE`."""

TIMEOUT_S = 30.0
CHECKED_STEPS = 20


def measure(pace: Pace) -> list[Table]:
    """Ratios, and the rates behind them, each step one time step of a network."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        models = Path(folder)
        networks = subject.write(models, NETWORKS)
        together = stack.enter_context(server.gatescope(models))
        alone = stack.enter_context(server.gatescope(models, {"GATESCOPE_MAX_BATCH_SIZE": "1"}))
        pool = stack.enter_context(apart.process())
        tables = []
        for network in networks.values():
            _check(together, network)
            ways: dict[str, Callable[[], float]] = {
                "1, HTTP": _over_http(pool, together, network, 1, pace.seconds),
                "many, HTTP": _over_http(pool, together, network, MANY, pace.seconds),
                "many, HTTP, alone": _over_http(pool, alone, network, MANY, pace.seconds),
                "1, in process": partial(_in_process, models, network.name, 1, TOGETHER, pace.seconds),
                "many, in process": partial(_in_process, models, network.name, MANY, TOGETHER, pace.seconds),
                "many, in process, alone": partial(_in_process, models, network.name, MANY, 1, pace.seconds),
            }
            tables.append(_table(network, in_turns(ways, pace.rounds), pace))
        return tables


def _check(service: Server, network: Subject) -> None:
    """The last step of a session is answered with what the network says of the whole sequence."""
    inputs = network.inputs(CHECKED_STEPS)
    path = _opened(service, network, 1)[0]
    for step in inputs[:-1]:
        service.post(_step(path, step))
    service.check(_step(path, inputs[-1]), form.PREDICT.decode, network.answer(inputs))


def _opened(service: Server, network: Subject, count: int) -> list[str]:
    """So many new sessions' paths."""
    with httpx.Client(base_url=service.url, timeout=TIMEOUT_S) as client:
        opened = (client.post("/v1/sessions", json={"model": network.name}) for _ in range(count))
        return [f"/v1/sessions/{reply.raise_for_status().json()['session_id']}" for reply in opened]


def _step(path: str, features: np.ndarray) -> Request:
    """The request to take one time step."""
    return Request(f"{path}/steps", form.to_json({"inputs": features[None]}), {"Content-Type": form.JSON})


def _over_http(
    pool: ProcessPoolExecutor, service: Server, network: Subject, sessions: int, seconds: float
) -> Callable[[], float]:
    features = network.inputs(sessions)
    steps = [_step(path, row).raw for path, row in zip(_opened(service, network, sessions), features, strict=True)]
    return lambda: pool.submit(closed_loop.rate, service.url, steps, seconds).result()


def _in_process(models: Path, name: str, sessions: int, max_batch_size: int, seconds: float) -> float:
    return asyncio.run(_stepping(models, name, sessions, max_batch_size, seconds))


async def _stepping(models: Path, name: str, sessions: int, max_batch_size: int, seconds: float) -> float:
    """Steps a second of the engine and the sessions by themselves."""
    engine = LocalEngine(Repository(models, torch.device("cpu")), 2 * MANY, max_batch_size)
    await engine.start()
    streams = Sessions(engine, MemoryStore(sessions), TIMEOUT_S)
    opened = [(await streams.open(engine.model(name))).session_id for _ in range(sessions)]
    query = Query(torch.randn(1, 1, engine.model(name).spec.input_size), torch.tensor([1]))
    taken, ends = 0, time.perf_counter() + closed_loop.WARM_UP_S + seconds

    async def go_on(session_id: str) -> None:
        nonlocal taken
        while (now := time.perf_counter()) < ends:
            await streams.step(session_id, query)
            taken += now > ends - seconds

    await asyncio.gather(*map(go_on, opened))
    await engine.stop()
    return taken / seconds


def _table(network: Subject, rates: Mapping[str, Sequence[float]], pace: Pace) -> Table:
    table = Table(
        f"sessions, {network.name} network",
        "steps/s",
        "over 1 session",
        "least to most",
        "over computing each alone",
        "least to most",
    )
    for where in ("HTTP", "in process"):
        one, many, alone = (rates[f"{way}"] for way in (f"1, {where}", f"many, {where}", f"many, {where}, alone"))
        table.add_row(f"1, {where}", f"{statistics.median(one):,.0f}")
        gains = (*ratio.shown(ratio.each(many, one)), *ratio.shown(ratio.each(many, alone)))
        table.add_row(f"{MANY}, {where}", f"{statistics.median(many):,.0f}", *gains)
        title = f"{MANY}, {where}, GATESCOPE_MAX_BATCH_SIZE=1"
        table.add_row(title, f"{statistics.median(alone):,.0f}", *ratio.shown(ratio.each(alone, one)))
    table.caption = (
        f"{pace.rounds} rounds of {pace.seconds} s each; goals over HTTP: ≥ 8 over 1 session, ≥ 5 over alone"
    )
    return table
