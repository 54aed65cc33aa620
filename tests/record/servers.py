"""The servers that are talked to: one process of `gatescope serve` for each configuration."""

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import folders

ROOT = Path(__file__).parents[2]
STARTING_S = 60.0
SHOWN = 2000
"""So many characters of a log."""

KEYS = "reader,second"
ADMIN_KEYS = "boss,deputy"

ALWAYS = {
    "GATESCOPE_DEVICE": "cpu",
    "GATESCOPE_THREADS": "1",
    "GATESCOPE_WATCH": "false",
    "GATESCOPE_LOG_FORMAT": "json",
}

_LISTENING = re.compile(r'"url": "http://[\d.]+:(\d+)"')


@dataclass(frozen=True)
class Configuration:
    """A server's folder of models, and its settings beside `ALWAYS`."""

    models: Callable[[Path], None]
    """Writes the folder."""
    settings: Mapping[str, str] = field(default_factory=dict)


CONFIGURATIONS = {
    "plain": Configuration(folders.plain),
    "administered": Configuration(folders.administered),
    "modules": Configuration(folders.modules, {"GATESCOPE_ALLOW_CODE": "true", "GATESCOPE_MAX_TRACE_BYTES": "100000"}),
    "limited": Configuration(
        folders.few,
        {
            "GATESCOPE_ADMIN_KEYS": ADMIN_KEYS,
            "GATESCOPE_MAX_BODY_BYTES": "2000",
            "GATESCOPE_MAX_UPLOAD_BYTES": "1500",
            "GATESCOPE_MAX_TIME_STEPS": "8",
            "GATESCOPE_MAX_BATCH_STEPS": "16",
            "GATESCOPE_MAX_TRACE_BYTES": "1500",
            "GATESCOPE_MAX_SESSIONS": "3",
            "GATESCOPE_TRACE_STORE_BYTES": "6000",
            "GATESCOPE_REQUEST_TIMEOUT_S": "3",
        },
    ),
    "keyed": Configuration(folders.few, {"GATESCOPE_API_KEYS": KEYS, "GATESCOPE_ADMIN_KEYS": ADMIN_KEYS}),
    "reading": Configuration(folders.few, {"GATESCOPE_API_KEYS": KEYS, "GATESCOPE_CORS_ORIGINS": "*"}),
    "origins": Configuration(
        folders.few_and_one_of_code,
        {
            "GATESCOPE_CORS_ORIGINS": "https://a.example,http://b.example:8080",
            "GATESCOPE_SESSION_IDLE_TIMEOUT_S": "0.2",
            "GATESCOPE_TRACE_STORE_TIMEOUT_S": "0.2",
        },
    ),
}
"""The ones with the most to say come first."""


@dataclass(frozen=True)
class Server:
    """A process that serves, until somebody ends it."""

    port: int
    process: subprocess.Popen
    log: list[str]

    @property
    def fate(self) -> str:
        """Whether it still runs, and its last words."""
        status = self.process.poll()
        how = "still runs" if status is None else f"has ended with {status}"
        return f"the server {how}; the end of its log:\n{''.join(self.log)[-SHOWN:]}"


@contextlib.contextmanager
def serving(name: str, command: Sequence[str | Path], scratch: Path) -> Iterator[Server]:
    """A server of this configuration, ready.

    Args:
        name: one of `CONFIGURATIONS`.
        command: starts `gatescope`.
        scratch: a folder for its models.
    """
    configuration = CONFIGURATIONS[name]
    folder = scratch / name
    configuration.models(folder)
    started = [*command, "serve", "--port", "0"]
    environment = _environment(folder, configuration.settings)
    with subprocess.Popen(
        started, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        log: list[str] = []
        try:
            port = _port(process, log)
            drain = threading.Thread(target=log.extend, args=[process.stderr], daemon=True)
            drain.start()
            _until_ready(port)
            yield Server(port, process, log)
        finally:
            process.terminate()
            process.wait()


def _environment(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATESCOPE_")}
    path = os.pathsep.join(filter(None, (str(ROOT / "tests" / "packages"), inherited.get("PYTHONPATH"))))
    return inherited | ALWAYS | settings | {"GATESCOPE_MODELS_DIR": str(folder), "PYTHONPATH": path}


def _port(process: subprocess.Popen, log: list[str]) -> int:
    for line in process.stderr or ():
        log.append(line)
        if found := _LISTENING.search(line):
            return int(found[1])
    raise RuntimeError(f"the server did not start, but ended with {process.wait()}: {''.join(log)[-SHOWN:]}")


def _until_ready(port: int) -> None:
    deadline = time.monotonic() + STARTING_S
    while time.monotonic() < deadline:
        with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=STARTING_S)) as connection:
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
    raise TimeoutError("the server did not become ready")
