"""Clients that misbehave, each in one way, for a limited time; only what runs on this machine is asked."""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import numpy as np
from safetensors.numpy import save

from benchmarks import form
from benchmarks.form import JSON, SAFETENSORS, Request
from benchmarks.subject import Subject

TIMEOUT_S = 2.0
"""A socket that can be neither read nor written for this long is given up."""

PAUSE_S = 0.01
"""Between two attempts of one client."""

STAYS_S = 0.02  # at most, before a client leaves
PIPELINED = 20_000  # requests on one connection
HALF_HEADS = 50  # connections at once
UNREAD = 2  # connections at once
SMALL_BUFFER = 4096  # bytes that the system reads ahead of a client that does not read
HELD_S = 5.0  # what is never read, or never ends, is held for so long
NAN_BYTES = 13_000_000
REST_S = 1.0  # between two large bodies


@dataclass(frozen=True)
class Requests:
    """What is asked, all its bytes."""

    trace: bytes
    large_trace: bytes
    expiring: bytes
    nans: bytes

    @classmethod
    def of(cls, network: Subject) -> Requests:
        """For this network: a trace of 3 MB, one of 60 MB, a prediction that expires at once, and 13 MB of NaN."""
        kind = {"Content-Type": SAFETENSORS, "Accept": SAFETENSORS}
        path = f"/v1/models/{network.name}/trace"

        def trace(batch: int, steps: int) -> Request:
            inputs = np.stack([network.inputs(steps, seed) for seed in range(batch)])
            return Request(path, save({"inputs": inputs}), kind)

        predict = form.PREDICT.request(network.name, network.inputs(1000))
        expiring = replace(predict, headers=predict.headers | {"X-Request-Timeout-Ms": "1"})
        row = b"[" + b",".join([b"NaN"] * network.sizes.input_size) + b"]"
        body = b'{"inputs":[' + b",".join([row] * (NAN_BYTES // len(row))) + b"]}"
        nans = Request(predict.path, body, {"Content-Type": JSON})
        return cls(trace(20, 100).raw, trace(8, 5000).raw, expiring.raw, nans.raw)


def attack(url: str, requests: Requests, seconds: float) -> Counter[str]:
    """All kinds of clients at once, one thread for each; how often each came."""
    host, _, port = urlsplit(url).netloc.rpartition(":")
    address, ends = (host, int(port)), time.monotonic() + seconds
    with ThreadPoolExecutor(len(KINDS)) as threads:
        counts = threads.map(lambda kind: _repeat(KINDS[kind], address, requests, ends), KINDS)
        return Counter(dict(zip(KINDS, counts, strict=True)))


Address = tuple[str, int]
Client = Callable[[Address, Requests, float], None]


def _repeat(client: Client, address: Address, requests: Requests, ends: float) -> int:
    count = 0
    while time.monotonic() < ends:
        with suppress(OSError):  # refused, reset or timed out: as well
            client(address, requests, ends)
        count += 1
        time.sleep(PAUSE_S)
    return count


def _connect(address: Address) -> socket.socket:
    return socket.create_connection(address, timeout=TIMEOUT_S)


def _hold(seconds: float, ends: float) -> None:
    time.sleep(max(0.0, min(seconds, ends - time.monotonic())))


def leave(address: Address, requests: Requests, ends: float) -> None:
    """Ask for a trace and leave before, while or after it is computed."""
    with _connect(address) as client:
        client.sendall(requests.trace)
        _hold(random.uniform(0, STAYS_S), ends)  # noqa: S311 - not a secret


def expire(address: Address, requests: Requests, _: float) -> None:
    """Let the deadline pass, and read the error."""
    with _connect(address) as client:
        client.sendall(requests.expiring)
        client.recv(65536)


def pipeline(address: Address, _: Requests, ends: float) -> None:
    """Send request after request and read no reply."""
    some = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n" * 500
    with _connect(address) as client:
        with suppress(TimeoutError):
            for _some in range(PIPELINED // 500):
                client.sendall(some)
                if time.monotonic() > ends:
                    return
        _hold(HELD_S, ends)


def half_heads(address: Address, _: Requests, ends: float) -> None:
    """Open connections whose head never ends."""
    with ExitStack() as open_ones:
        for _head in range(HALF_HEADS):
            client = open_ones.enter_context(_connect(address))
            client.sendall(b"POST /v1/models HTTP/1.1\r\nHost: a\r\nX-Long: ")
        _hold(HELD_S, ends)


def half_body(address: Address, requests: Requests, _: float) -> None:
    """Leave in the middle of a body."""
    with _connect(address) as client:
        client.sendall(requests.large_trace[: len(requests.large_trace) // 2])


def unread(address: Address, requests: Requests, ends: float) -> None:
    """Ask for large traces and read only how their replies begin."""
    with ExitStack() as open_ones:
        for _each in range(UNREAD):
            client = open_ones.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            client.settimeout(TIMEOUT_S)
            client.connect(address)
            client.sendall(requests.large_trace)
            with suppress(TimeoutError):
                client.recv(15)
        _hold(HELD_S, ends)


def nans(address: Address, requests: Requests, ends: float) -> None:
    """Send a large body that must be refused."""
    with _connect(address) as client:
        client.sendall(requests.nans)
        client.recv(65536)
    _hold(REST_S, ends)


KINDS: dict[str, Client] = {
    "left": leave,
    "expired": expire,
    "pipelined": pipeline,
    "half heads": half_heads,
    "half bodies": half_body,
    "unread": unread,
    "NaN": nans,
}
