"""`Wrk`: requests a second at their peak, by the load generator of this name (Debian: `apt install wrk`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.form import Request

CONNECTIONS = 64

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Load:
    """What came of some seconds of it."""

    rate: float  # answers a second
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Statuses:
    """How often a second requests were answered with what, or not at all."""

    answered: float  # 200
    refused: float  # 429
    other: float
    lost: float  # without an answer
    seconds: float


class Missing(Exception):
    """A program that a benchmark needs is not installed."""


class Failed(Exception):
    """Not every request was answered with 200."""


def needed() -> str:
    """The program; raises `Missing`."""
    program = shutil.which("wrk")
    if program is None:
        raise Missing("wrk is not installed, and this benchmark measures with it: apt install wrk")
    return program


def run(url: str, requests: Sequence[Request], seconds: int, connections: int = CONNECTIONS) -> Load:
    """Send these requests in turn, each connection the next one when its last is answered.

    Raises:
        Missing: there is no wrk.
        Failed: an answer was not 200, or did not come.
    """
    told = _run(url, requests, seconds, connections)
    if not told["requests"]:
        raise Failed(f"{url}: none of {connections} requests was answered within {seconds} s")
    if told["failed"]:
        raise Failed(f"{url}: {told['failed']} of {told['requests']} requests failed")
    return Load(told["requests"] / told["seconds"], told["p50_ms"], told["p99_ms"])


def statuses(url: str, requests: Sequence[Request], seconds: int, connections: int = CONNECTIONS) -> Statuses:
    """The same, but whatever is answered counts: who is refused asks again at once."""
    told = _run(url, requests, seconds, connections, "statuses")
    seconds_taken, all_answers = told["seconds"], told["requests"]
    other = all_answers - told["answered"] - told["refused"]
    answered, refused, others, lost = (
        count / seconds_taken for count in (told["answered"], told["refused"], other, told["lost"])
    )
    return Statuses(answered, refused, others, lost, seconds_taken)


def _run(url: str, requests: Sequence[Request], seconds: int, connections: int, *options: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(len(requests))]
        for file, request in zip(files, requests, strict=True):
            file.write_bytes(request.raw)
        size = ("--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s")
        command = [needed(), *size, "--timeout", "10s", "--script", str(SCRIPT), url, "--", *options, *map(str, files)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told
