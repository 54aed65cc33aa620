"""How long a small request waits while somebody else asks for something large."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from rich.table import Table
from safetensors.numpy import save

from benchmarks import apart, form, server, subject
from benchmarks.form import JSON, SAFETENSORS, Request
from benchmarks.interleaved import in_turns
from benchmarks.pace import Pace
from benchmarks.subject import Subject

TIMEOUT_S = 120
ASK_AGAIN_S = 0.002


@dataclass
class Watched:
    """What small requests waited meanwhile, and what somebody else waited for; seconds."""

    waits: list[float] = field(default_factory=list)
    took: float = 0.0


def measure(pace: Pace) -> list[Table]:
    """A table of what large requests cost the others."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        networks = subject.write(Path(folder))
        service = stack.enter_context(server.gatescope(Path(folder), {"GATESCOPE_REQUEST_TIMEOUT_S": str(TIMEOUT_S)}))
        pool = stack.enter_context(apart.process())
        small = form.PREDICT.request("small", networks["small"].inputs())
        seen: dict[str, Watched] = {name: Watched() for name in ("nothing", *_large(networks["larger"]))}
        ways: dict[str, Callable[[], float]] = {
            "nothing": lambda: _watch(pool.submit(time.sleep, pace.seconds), service.url, small, seen["nothing"])
        }
        for name, requests in _large(networks["larger"]).items():
            asked = _asked(pool, service.url, requests)
            ways[name] = lambda name=name, asked=asked: _watch(asked(), service.url, small, seen[name])  # type: ignore[misc]
        took = in_turns(ways, pace.rounds)
        for name, watched in seen.items():
            watched.took = statistics.median(took[name])
        return [_table(seen, pace)]


def _large(network: Subject) -> dict[str, list[Request]]:
    """What is asked for, in words; several requests are sent at once."""
    name = network.name
    batch = np.stack([network.inputs(2500, seed) for seed in range(4)])
    wide = np.stack([network.inputs(1000, seed) for seed in range(40)])
    traced = form.to_json({"inputs": batch})
    tensor = {"name": "inputs", "datatype": "FP32", "shape": batch.shape, "data": batch.ravel()}
    gates = [{"name": gate} for gate in ("input_gate", "forget_gate", "cell_candidate", "output_gate")]
    long = Request(f"/v1/models/{name}/predict", save({"inputs": network.inputs(100_000)[None]}), _kind(SAFETENSORS))
    return {
        **{
            f"a trace of 61 MB in {title}": [Request(f"/v1/models/{name}/trace", traced, _kind(JSON, accepted))]
            for title, accepted in (
                ("JSON", JSON),
                ("safetensors", SAFETENSORS),
                ("npz", "application/x-npz"),
                ("ndjson", "application/x-ndjson"),
            )
        },
        "four gates of it in JSON, /v2": [
            Request(f"/v2/models/{name}/infer", form.to_json({"inputs": [tensor], "outputs": gates}), _kind(JSON))
        ],
        "a prediction from 14 MB of JSON": [
            Request(f"/v1/models/{name}/predict", form.to_json({"inputs": wide}), _kind(JSON))
        ],
        "a prediction of 100,000 steps": [long],
        "four of those": [long] * 4,
    }


def _kind(content: str, accepted: str = "*/*") -> dict[str, str]:
    return {"Content-Type": content, "Accept": accepted, "Accept-Encoding": "identity"}


def _asked(pool: ProcessPoolExecutor, url: str, requests: Sequence[Request]) -> Callable[[], Future[None]]:
    return lambda: pool.submit(_ask, url, requests)


def _ask(url: str, requests: Sequence[Request]) -> None:
    with ThreadPoolExecutor(len(requests)) as threads:
        for reply in threads.map(lambda request: _posted(url, request), requests):
            reply.raise_for_status()


def _posted(url: str, request: Request) -> httpx.Response:
    return httpx.post(url + request.path, content=request.content, headers=request.headers, timeout=TIMEOUT_S)


def _watch(large: Future[None], url: str, small: Request, watched: Watched) -> float:
    """Seconds until the large one is answered; small ones are asked one after the other meanwhile."""
    began = time.perf_counter()
    with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
        while not large.done():
            asked = time.perf_counter()
            client.post(small.path, content=small.content, headers=small.headers).raise_for_status()
            watched.waits.append(time.perf_counter() - asked)
            time.sleep(ASK_AGAIN_S)
    large.result()
    return time.perf_counter() - began


def _table(seen: dict[str, Watched], pace: Pace) -> Table:
    table = Table("while somebody asks for", "that takes, s", "a small request: p50, ms", "the longest, ms")
    for name, watched in seen.items():
        p50, longest = statistics.median(watched.waits) * 1000, max(watched.waits) * 1000
        table.add_row(name, f"{watched.took:.1f}", f"{p50:.1f}", f"{longest:.0f}")
    table.caption = f"{pace.rounds} rounds; the small network, JSON, over one connection"
    return table
