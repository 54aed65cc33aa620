"""Requests a second of `gatescope serve --device …`, asked over HTTP on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.device.budget import Budget
from benchmarks.device.report import Row, Section

if TYPE_CHECKING:
    from benchmarks.form import Request
    from benchmarks.server import Server
    from benchmarks.subject import Subject


@dataclass(frozen=True)
class Load:
    """What is asked, and for how long."""

    networks: tuple[str, ...]
    connections: tuple[int, ...]
    seconds: float


FULL = Load(("small", "larger"), (1, 64), 4.0)
QUICK = Load(("small",), (8,), 0.3)

TITLE = "Served over HTTP"


def measure(device: str, budget: Budget, *, quick: bool) -> Section:
    """One row for each network, way and number of connections."""
    try:
        rows, skipped = _measured(device, budget, QUICK if quick else FULL)
    except ImportError as error:  # a machine may have torch alone
        return Section("served", TITLE, [], "Not measured.", [f"the service cannot be imported: {error}"])
    note = (
        f"`gatescope serve --device {device}` with its defaults, asked in a closed loop from another process of this "
        "machine; each answer was compared with the network's own first."
    )
    return Section("served", TITLE, rows, note, skipped)


def _measured(device: str, budget: Budget, load: Load) -> tuple[list[Row], list[str]]:
    from benchmarks import apart, closed_loop, server, subject  # noqa: PLC0415 - not every machine can
    from benchmarks.connection import Refused  # noqa: PLC0415
    from benchmarks.server import DidNotStart, WrongAnswer  # noqa: PLC0415

    rows: list[Row] = []
    skipped: list[str] = []
    with tempfile.TemporaryDirectory() as folder, apart.process() as pool:
        networks = subject.write(Path(folder), load.networks)
        try:
            with server.gatescope(Path(folder), None, "--device", device, timeout_s=budget.left) as service:
                for title, request in _requests(service, networks.values()).items():
                    for connections in load.connections:
                        if budget.left < closed_loop.WARM_UP_S + load.seconds:
                            skipped.append(f"{title}, {connections} connections: the budget ended")
                            continue
                        sent = [request.raw] * connections
                        rate = pool.submit(closed_loop.rate, service.url, sent, load.seconds).result()
                        rows.append({"way": title, "connections": connections, "requests/s": round(rate, 1)})
        except (DidNotStart, WrongAnswer, Refused) as error:
            skipped.append(f"the rest: {error}")
    return rows, skipped


def _requests(service: Server, networks: Iterable[Subject]) -> dict[str, Request]:
    """Each by its title, once the answer to it is known to be right."""
    from benchmarks import form  # noqa: PLC0415
    from benchmarks.serving import checked, trace_request  # noqa: PLC0415

    requests = {}
    for network in networks:
        requests[f"{network.name}, prediction, JSON"] = checked(service, network, form.PREDICT)
        requests[f"{network.name}, prediction, safetensors"] = checked(service, network, form.PREDICT_BINARY)
        requests[f"{network.name}, full trace, safetensors"] = trace_request(service, network)
    return requests
