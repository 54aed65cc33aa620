"""`Server`: a server in processes of its own, for as long as it is measured."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks.checkout import HERE, Checkout
from benchmarks.form import Request

BIN = Path(sys.executable).parent
TIMEOUT_S = 90.0
"""So long a server may take to start."""


class DidNotStart(Exception):
    """With what it last said."""


class WrongAnswer(Exception):
    """A reply is not what the network itself answers."""


@dataclass(frozen=True)
class Server:
    """One that answers at this URL."""

    url: str
    pid: int = 0
    """Of its first process."""

    def post(self, request: Request) -> httpx.Response:
        """Its reply."""
        return httpx.post(self.url + request.path, content=request.content, headers=request.headers, timeout=60)

    def check(self, request: Request, decode: Callable[[httpx.Response], np.ndarray], expected: np.ndarray) -> None:
        """Raise `WrongAnswer` if what it replies is not what is expected, to float32 rounding."""
        reply = self.post(request)
        if reply.status_code != 200:
            raise WrongAnswer(f"{request.path}: {reply.status_code} {reply.text[:200]}")
        if not np.allclose(decode(reply), np.ravel(expected), rtol=1e-4, atol=1e-5):
            raise WrongAnswer(f"{request.path}: {decode(reply)[:4]}, not {np.ravel(expected)[:4]}")


@contextmanager
def started(
    command: Sequence[str],
    port: int,
    ready: Callable[[Server], bool],
    environment: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Server]:
    """Start a server that will listen on this port, wait until it is ready, and stop it and its children at the end.

    Raises:
        DidNotStart: it ended, or was not ready in time.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - our own, and the peers' that were asked for
            command, env=os.environ | (environment or {}), stdout=log, stderr=log, start_new_session=True
        )
        server = Server(f"http://127.0.0.1:{port}", process.pid)
        try:
            _wait(process, lambda: ready(server), lambda: _end_of(log.fileno()), timeout_s)
            yield server
        finally:
            _stop(process)


def free_port() -> int:
    """One that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def gatescope(
    models: Path,
    environment: Mapping[str, str] | None = None,
    *options: str,
    checkout: Checkout = HERE,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Server]:
    """The service of a checkout, as `gatescope serve` starts it with these options."""
    port = free_port()
    command = [*checkout.command, "serve", "--models", str(models), "--port", str(port), *options]
    environment = checkout.environment | dict(environment or {})
    with started(command, port, lambda server: _answers(server, "/health/ready"), environment, timeout_s) as server:
        yield server


@contextmanager
def bare() -> Iterator[Server]:
    """Bare uvicorn: an application that does nothing, and the same settings."""
    port = free_port()
    options = ("--port", str(port), "--no-access-log", "--loop", "uvloop", "--http", "httptools", "--lifespan", "off")
    command = [str(BIN / "uvicorn"), *options, "benchmarks.bare:app"]
    with started(command, port, lambda server: _answers(server, "/")) as server:
        yield server


def _answers(server: Server, path: str) -> bool:
    return httpx.get(server.url + path).status_code == 200


def _wait(
    process: subprocess.Popen[bytes], ready: Callable[[], bool], said: Callable[[], str], timeout_s: float
) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DidNotStart(f"it ended with {process.returncode}: {said()}")
        try:
            if ready():
                return
        except httpx.TransportError:  # it does not listen yet
            pass
        time.sleep(0.1)
    raise DidNotStart(f"it was not ready after {timeout_s:g} seconds: {said()}")


def _end_of(log: int) -> str:
    """The last line of what was written there."""
    size = os.fstat(log).st_size
    lines = os.pread(log, size, 0).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """It, and what it started."""
    for which in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, which)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
