"""Fixtures of every test: small models with seeded random weights, in memory and on disk."""

import contextlib
import gc
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gatescope.backends import onednn, probe

REGRESSION = """
description = "two quantities from three features"
task = "regression"

[input]
kind = "features"
[[input.features]]
name = "a"
mean = 1.0
std = 2.0
[[input.features]]
name = "b"
[[input.features]]
name = "c"

[head]
steps = "all"

[output]
names = ["x", "y"]
"""


class Plain(nn.Module):
    """What a recipe trains: an optional embedding, an `nn.LSTM`, an optional head."""

    def __init__(self, lstm: nn.LSTM, head: nn.Sequential | None, embedding: nn.Embedding | None) -> None:
        super().__init__()
        if embedding is not None:
            self.embedding = embedding
        self.lstm = lstm
        if head is not None:
            self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, time, …) all of one length -> the head at every step, or the LSTM's output without one."""
        fed = self.embedding(inputs) if hasattr(self, "embedding") else inputs
        output, _ = self.lstm(fed)
        return self.head(output) if hasattr(self, "head") else output


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk and the module whose weights it holds."""

    path: Path
    module: Plain

    @property
    def models_dir(self) -> Path:
        """The folder of models that it stands in."""
        return self.path.parent

    def edit(self, old: str, new: str) -> None:
        """Replace a part of the manifest, which must be there."""
        text = (self.path / "model.toml").read_text(encoding="utf-8")
        assert old in text
        (self.path / "model.toml").write_text(text.replace(old, new), encoding="utf-8")

    def append(self, text: str) -> None:
        """Put more at the end of the manifest."""
        with (self.path / "model.toml").open("a", encoding="utf-8") as file:
            file.write(text)

    def save(self, weights: dict[str, Tensor], version: str = "1") -> None:
        """Write these weights as a version."""
        (self.path / version).mkdir(exist_ok=True)
        save_file({name: value.contiguous() for name, value in weights.items()}, self.weights(version))

    def weights(self, version: str = "1") -> Path:
        """The file with a version's weights."""
        return self.path / version / "model.safetensors"


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: whoever looks for garbage need not look through them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tiny tensors gain nothing from threads, and the machine may be busy."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def seeded_lstm() -> Callable[..., nn.LSTM]:
    """An `nn.LSTM` with weights wide enough that the gates do not all stand at one half."""

    def make(*args: Any, seed: int = 0, **kwargs: Any) -> nn.LSTM:
        module = nn.LSTM(*args, **kwargs)
        _seed(module, seed, 0.6)
        return module.eval()

    return make


@pytest.fixture
def plain(seeded_lstm) -> Callable[..., Plain]:
    """`plain(input_size, hidden_size, head=(width, …, outputs), embedding=vocabulary_size, **lstm_arguments)`."""

    def make(
        input_size: int = 3,
        hidden_size: int = 4,
        *,
        head: Sequence[int] | None = (2,),
        embedding: int | None = None,
        activation: type[nn.Module] = nn.ReLU,
        seed: int = 0,
        **lstm: Any,
    ) -> Plain:
        module = seeded_lstm(input_size, hidden_size, batch_first=True, seed=seed, **lstm)
        layers: list[nn.Module] = []
        if head is not None:
            width = (module.proj_size or hidden_size) * (2 if module.bidirectional else 1)
            for before, after in pairwise((width, *head)):
                layers += [nn.Linear(before, after), activation()]
        made = Plain(
            module,
            nn.Sequential(*layers[:-1]) if layers else None,
            None if embedding is None else nn.Embedding(embedding, input_size),
        )
        _seed(made, seed, 0.6)
        return made.eval()

    return make


@pytest.fixture
def model_folder(tmp_path, plain) -> Callable[..., ModelFolder]:
    """Write `models/<name>/model.toml` and its weights; without arguments, a regression of x and y from a, b and c.

    `model_folder(name, manifest, version=…, files={name: text}, **arguments_of_plain)`.
    """

    def write(
        name: str = "tiny",
        manifest: str = REGRESSION,
        *,
        version: str = "1",
        files: dict[str, str] | None = None,
        **arguments: Any,
    ) -> ModelFolder:
        path = tmp_path / "models" / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "model.toml").write_text(manifest, encoding="utf-8")
        for file, text in (files or {}).items():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            (path / file).write_text(text, encoding="utf-8")
        folder = ModelFolder(path, plain(**arguments))
        folder.save(folder.module.state_dict(), version)
        return folder

    return write


def _seed(module: nn.Module, seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-spread, spread, generator=generator)
            parameter.requires_grad_(requires_grad=False)


@pytest.fixture
def use_backend():
    """`use_backend("replay")`: traces use this backend from now on; probes and disabled backends are reset after."""

    def reset() -> None:
        probe._disabled.clear()
        probe._fastest.cache_clear()
        probe._is_proved.cache_clear()
        onednn._checked_shapes.clear()

    def use(name: str) -> None:
        probe._disabled.clear()
        probe._fastest.cache_clear()
        probe._disabled.update(probe.BACKENDS.keys() - {name, "loop"})

    reset()
    yield use
    reset()


@contextlib.contextmanager
def _service(**environment: str) -> Iterator[tuple[httpx.Client, subprocess.Popen]]:
    command = [Path(sys.executable).with_name("gatescope"), "serve", "--port", "0"]
    settings, root = os.environ | environment, Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, env=settings, stderr=subprocess.PIPE, text=True) as process:
        log = iter(process.stderr)
        port = next(found[1] for line in log if (found := re.search(r'"url": "http://[\d.]+:(\d+)"', line)))
        drain = threading.Thread(target=lambda: [None for _ in log], daemon=True)
        drain.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                while client.get("/health/ready").status_code != 200:
                    threading.Event().wait(0.05)
                yield client, process
        finally:
            process.terminate()
            process.wait()
            drain.join()


@pytest.fixture(scope="session")
def service() -> Callable[..., contextlib.AbstractContextManager[tuple[httpx.Client, subprocess.Popen]]]:
    """`with service(GATESCOPE_…=…) as (client, process):` — the real command over the shipped models, in a process."""
    return _service


@pytest.fixture(scope="session")
def quiet() -> None:
    """Servers in this process log warnings alone."""
    from gatescope.server import logs  # noqa: PLC0415 - most tests need no server

    logs.configure("console")
    logs.quiet()


@pytest.fixture(scope="session")
def serve_models(quiet: None) -> Callable[..., contextlib.AbstractContextManager[httpx.Client]]:
    """`with serve_models(folder, watch=True) as client:` — a server in this process, with models of its own."""
    from tests.serving import serving  # noqa: PLC0415 - most tests need no server

    return serving


@pytest.fixture(scope="session")
def shipped() -> Iterator[httpx.Client]:
    """A client of `gatescope serve` over the shipped models."""
    with _service() as (client, _):
        yield client


@pytest.fixture(scope="session")
def needed() -> Callable[[str], str]:
    """`needed("chromium")`: the path of a program outside Python.

    Without it the test is skipped, or fails where everything is to be tested.
    """

    def path_of(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            (pytest.fail if os.environ.get("TEST_EVERYTHING") else pytest.skip)(f"{program} is not installed")
        return path

    return path_of


class RedisServer:
    """A real redis-server on a port of its own, which can be stopped and started again; it keeps nothing on disk."""

    def __init__(self, program: str) -> None:
        self._program = program
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        self._process = subprocess.Popen([self._program, *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise TimeoutError("redis-server did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def redis_server(needed) -> Iterator[RedisServer]:
    server = RedisServer(needed("redis-server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def on_device(monkeypatch):
    """Everything is computed by workers, however short it is: for tests that hold them up."""
    monkeypatch.setattr("gatescope.server.serving.tuning.INLINE_NS", -1)
