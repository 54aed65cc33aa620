"""The wheel, installed: what it holds, what each part of it needs, and that it lives beside a user's own `app`."""

import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import threading
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gatescope.extras import EXTRAS

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "app" / "gatescope"
FORBID = """
import os
import sys


class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in os.environ.get("FORBIDDEN", "").split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Forbidden())
"""
UNCHANGED = """
import ctypes, gc, sys, threading, warnings
import torch

called = []
found = ctypes.CDLL.__getattr__
ctypes.CDLL.__getattr__ = lambda library, name: called.append(name) or found(library, name)

def process():
    collector = gc.get_threshold(), gc.get_freeze_count()
    return warnings.filters[:], collector, sys.getswitchinterval(), threading.enumerate()

before = process()
import gatescope, gatescope.tracing
assert process() == before
assert called == []
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The files that a build reads, beside some that it must leave out."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    for name in ("tests/test_any.py", "models/any/model.toml"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    return folder


@pytest.fixture(scope="module")
def wheel(source):
    pip("wheel", "--no-build-isolation", "--wheel-dir", source / "dist", source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel installed, and what forbids the packages that a test names."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--target", folder, wheel)
    (folder / "sitecustomize.py").write_text(FORBID)
    return folder


@pytest.fixture
def beside(tmp_path):
    """A user's own folder: an `app.py`, an `app` package and models."""
    broken = "raise SystemExit('the user's own app was imported')"
    (tmp_path / "app").mkdir()
    (tmp_path / "app.py").write_text(broken)
    (tmp_path / "app" / "__init__.py").write_text(broken)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "brackets").symlink_to(ROOT / "models" / "brackets")
    return tmp_path


@pytest.fixture
def environment(installed):
    """`environment(*forbidden)`: variables with which the wheel is found and these packages are not."""

    def make(*forbidden):
        path = [".", str(installed), sysconfig.get_path("purelib")]
        return {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(path), "FORBIDDEN": ",".join(forbidden)}

    return make


@pytest.fixture
def python(beside, environment):
    """`python(code, *forbidden)` runs it in the user's folder."""

    def run(code, *forbidden):
        command = [sys.executable, "-c", code]
        ran = subprocess.run(
            command, cwd=beside, env=environment(*forbidden), capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


@pytest.fixture
def gatescope(beside, environment, installed):
    """`gatescope(*arguments, without=packages)` runs the command in the user's folder."""

    def run(*arguments, without=()):
        command = [sys.executable, installed / "bin" / "gatescope", *map(str, arguments)]
        return subprocess.run(
            command, cwd=beside, env=environment(*without), capture_output=True, text=True, check=False
        )

    return run


def pip(action, *arguments):
    command = [sys.executable, "-m", "pip", action, "--quiet", "--no-deps", "--disable-pip-version-check", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def packages(*extras):
    """The packages of these extras, or of all of them."""
    return [package for extra in extras or EXTRAS for package in EXTRAS[extra]]


def files_below(folder):
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not {"__pycache__"} & set(path.parts)
    }


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {"gatescope", wheel.name.rpartition("-py3")[0] + ".dist-info"}
    held = {name.removeprefix("gatescope/") for name in names if name.startswith("gatescope/")}
    assert held == files_below(SOURCE)
    assert {"py.typed", "server/inspector/index.html"} <= held


def test_the_source_distribution_holds_no_models_and_no_tests(source):
    code = "from setuptools.build_meta import build_sdist; build_sdist('sdist')"
    subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, check=True)
    (built,) = (source / "sdist").glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"app/gatescope/{name}" for name in files_below(SOURCE)} <= names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.startswith(("models", "tests"))]


def test_the_library_is_found_beside_a_users_own_app(python, installed):
    found = python("import gatescope; from gatescope import Client; print(gatescope.__file__)", *packages())
    assert found.strip() == str(installed / "gatescope" / "__init__.py")


def test_a_trace_needs_torch_numpy_and_httpx_alone(python):
    allowed = {"torch"}
    code = """
import torch
from gatescope import trace
assert trace(torch.nn.LSTM(3, 4, batch_first=True), torch.zeros(1, 5, 3)).forget_gate.shape == (1, 1, 1, 5, 4)
"""
    python(code, *(set(packages()) - allowed))


def test_what_needs_torch_says_which_extra_brings_it(python):
    code = """
import gatescope
try:
    gatescope.trace
except ModuleNotFoundError as error:
    print(error, error.name)
"""
    said = "gatescope.trace: this needs torch, which is not installed: pip install 'gatescope[torch]' torch\n"
    assert python(code, "torch") == said


def test_importing_the_package_loads_no_torch_and_changes_nothing_in_the_process(python):
    python("import sys, gatescope; assert not {'torch', 'numpy', 'httpx'} & set(sys.modules)")
    python(UNCHANGED)


@pytest.mark.parametrize(
    ("arguments", "without", "package", "extra"),
    [
        (["--help"], packages(), "typer", "cli"),
        (["serve"], packages("server"), "structlog", "server"),
        (["predict", "brackets", "--text", "x"], packages("server"), "structlog", "server"),
        (["inspect", "any.pt"], ["torch"], "torch", "torch"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(gatescope, arguments, without, package, extra):
    ran = gatescope(*arguments, without=without)
    line = f"gatescope: this needs {package}, which is not installed: pip install 'gatescope[{extra}]'\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", line)


def test_help_and_a_running_server_need_no_server_here(gatescope, shipped):
    without = set(packages("server", "torch", "plot", "xarray")) - {"pydantic"}  # which typer needs itself
    helped = gatescope("--help", without=[*without, "numpy", "httpx"])
    assert helped.returncode == 0, helped.stderr
    assert "serve" in helped.stdout
    for command in ("predict", "trace"):
        ran = gatescope(command, "brackets", "--text", "(x)", "--url", shipped.base_url, without=without)
        assert ran.returncode == 0, ran.stderr
        assert '"tokens":[["(","x",")"]]' in ran.stdout


def test_the_command_serves_beside_a_users_own_app(beside, environment, installed):
    command = [sys.executable, installed / "bin" / "gatescope", "serve", "--models", "models", "--port", "0"]
    with started(command, beside, environment(), r'"url": "(http://[^"]+)"') as url:
        assert_answers(url)


def test_any_asgi_server_serves_the_factory_beside_a_users_own_app(beside, environment):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    factory = ["gatescope.server.main:create_app", "--factory", "--port", str(port)]
    command = [sys.executable, "-m", "uvicorn", *factory]
    with started(command, beside, environment(), r"running on (http://[\d.:]+)") as url:
        assert_answers(url)


@contextmanager
def started(command, folder, environment, address):
    """The URL that a server says it listens on."""
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(address, line):
                break
        else:
            pytest.fail("".join(said))
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        try:
            yield found[1]
        finally:
            process.terminate()
            process.wait()
            drain.join()


def assert_answers(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        while client.get("/health/ready").status_code != httpx.codes.OK:
            time.sleep(0.05)
        assert "<title>Gatescope</title>" in client.get("/").text
        reply = client.post("/v1/models/brackets/predict", json={"text": "(x)"})
        assert reply.json()["tokens"] == [["(", "x", ")"]]
