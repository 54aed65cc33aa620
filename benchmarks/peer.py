"""`Peer`: another server of the same networks, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import form, server
from benchmarks.form import INFER, INFER_BINARY, JSON, Form, json_form, numbers
from benchmarks.server import Server
from benchmarks.subject import Subject

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".peers"
TORCH = "torch==2.13.0", "numpy==2.4.6"
"""Installed once, and seen by every environment that does not bring another one: it is most of their size."""


class NotInstalled(Exception):
    """With what pip said."""


@dataclass(frozen=True)
class Peer:
    """One of `benchmarks/peers/`.

    Args:
        title: what people call it.
        folder: of its code and its environment.
        package: whose version is told.
        command: a free port -> what starts it; the first word is a program of its environment.
        form: how it is asked.
        environment: variables that it wants.
        native: whether what takes its requests is not Python.
    """

    title: str
    folder: str
    package: str
    command: Callable[[int], tuple[str, ...]]
    form: Form
    environment: Callable[[int], dict[str, str]] = field(default=lambda _: {})
    native: bool = False

    @property
    def _bin(self) -> Path:
        return ENVIRONMENTS / self.folder / "bin"

    def install(self) -> str:
        """Make its environment, unless it is there, and tell the version of what is in it; raises `NotInstalled`."""
        requirements = ROOT / "benchmarks" / "peers" / self.folder / "requirements.txt"
        torch = _environment("torch", *TORCH)
        (packages,) = torch.glob("lib/python*/site-packages")
        _environment(self.folder, "--requirement", str(requirements), beside=packages)
        told = f"from importlib.metadata import version; print(version({self.package!r}))"
        return _run(self._bin / "python", "-c", told).strip()

    @contextmanager
    def serving(self, network: Subject, weights: Path) -> Iterator[Server]:
        """It, with this network, once it answers; raises `DidNotStart`."""
        port = server.free_port()
        program, *arguments = self.command(port)
        here = {"NETWORK": network.name, "WEIGHTS": str(weights), "PYTHONPATH": str(ROOT)}
        request = self.form.request(network.name, network.inputs())
        with server.started(
            [str(self._bin / program), *arguments],
            port,
            lambda started: started.post(request).status_code == 200,
            here | self.environment(port),
        ) as started:
            yield started


def _environment(name: str, *packages: str, beside: Path | None = None) -> Path:
    """An environment with these packages, which sees those that lie `beside` it, too."""
    folder = ENVIRONMENTS / name
    done = folder / ".installed"
    wanted = "\n".join(
        Path(package).read_text("utf-8") if package.endswith(".txt") else package for package in packages
    )
    if done.exists() and done.read_text("utf-8") == wanted:
        return folder
    _run(sys.executable, "-m", "venv", "--clear", folder)
    if beside is not None:
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "beside.pth").write_text(f"{beside}\n", encoding="utf-8")
    _run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    done.write_text(wanted, encoding="utf-8")
    return folder


def _run(*command: str | Path) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if ran.returncode:
        raise NotInstalled(ran.stderr.strip().splitlines()[-1])
    return ran.stdout


def _module(folder: str) -> str:
    return f"benchmarks.peers.{folder}.server"


def _batch_of_one(inputs: np.ndarray) -> tuple[bytes, dict[str, str]]:
    return form.to_json({"inputs": inputs[None]}), {}


def _uvicorn(workers: int) -> Callable[[int], tuple[str, ...]]:
    options = ("--no-access-log", "--workers", str(workers))
    return lambda port: ("uvicorn", *options, "--port", str(port), f"{_module('fastapi_tutorial')}:app")


def _bentoml(port: int) -> tuple[str, ...]:
    return "bentoml", "serve", "--host", "127.0.0.1", "--port", str(port), f"{_module('bentoml')}:Service"


def _mlserver(_: int) -> tuple[str, ...]:
    return "mlserver", "start", str(ROOT / "benchmarks" / "peers" / "mlserver" / "model")


def _mlserver_ports(port: int) -> dict[str, str]:
    ports = {"HTTP": port, "GRPC": server.free_port(), "METRICS": server.free_port()}
    return {f"MLSERVER_{name}_PORT": str(number) for name, number in ports.items()}


def _pytriton(port: int) -> tuple[str, ...]:
    return "python", "-m", _module("pytriton"), str(port), str(server.free_port()), str(server.free_port())


_PREDICT = json_form("/predict", numbers("prediction"))
_MLSERVER = Form("/v2/models/network/infer", INFER.encode, INFER.decode, INFER.headers)
_BENTOML = Form("/predict", _batch_of_one, numbers(), {"Content-Type": JSON})

PEERS = (
    Peer("FastAPI tutorial", "fastapi_tutorial", "fastapi", _uvicorn(1), _PREDICT),
    Peer("FastAPI tutorial, two workers", "fastapi_tutorial", "fastapi", _uvicorn(2), _PREDICT),
    Peer("LitServe", "litserve", "litserve", lambda port: ("python", "-m", _module("litserve"), str(port)), _PREDICT),
    Peer("BentoML", "bentoml", "bentoml", _bentoml, _BENTOML, lambda _: {"BENTOML_DO_NOT_TRACK": "True"}),
    Peer("MLServer", "mlserver", "mlserver", _mlserver, _MLSERVER, _mlserver_ports),
    Peer(
        "Ray Serve",
        "ray_serve",
        "ray",
        lambda port: ("python", "-m", _module("ray_serve"), str(port)),
        _PREDICT,
        lambda _: {"RAY_USAGE_STATS_ENABLED": "0"},
    ),
    Peer(
        "Triton (PyTriton), binary",
        "pytriton",
        "nvidia-pytriton",
        _pytriton,
        INFER_BINARY,
        # Triton embeds Python, and would take the system's library with this interpreter's modules
        lambda _: {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))},
        native=True,
    ),
)
