"""`gatescope serve`: what it says when it starts, and when it cannot."""

import json
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch

from gatescope.cli import greeting, main
from gatescope.server.api.server import listen, url_of
from gatescope.server.repository.repository import Repository

ROOT = Path(__file__).parents[2]
URL = "http://127.0.0.1:8000"
LETTERS = """
description = "letters"
task = "next_token"
[input]
kind = "tokens"
vocabulary = "characters"
characters = "abc'"
[head]
[[examples]]
title = "a word"
request = { text = "ab'c" }
"""
EXAMPLE = '\n[[examples]]\ntitle = "steps"\nrequest = {{ inputs = [{}] }}\n'


@pytest.fixture
def serve(monkeypatch, capsys):
    """`gatescope serve` in this process, where it ends at once: exit status and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gatescope", "serve", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def suggested(tmp_path):
    """The words of the request that a server of the models written so far suggests."""

    def suggest(**arguments):
        repository = Repository(tmp_path / "models", torch.device("cpu"))
        repository.load()
        return shlex.split(greeting.lines(URL, repository.entries(), **arguments)[-1])

    return suggest


def test_it_greets_once_it_can_be_asked_with_a_request_that_works(model_folder):
    made = model_folder("it's letters", LETTERS, input_size=4, head=(4,))
    command = [Path(sys.executable).with_name("gatescope"), "serve", "--port", "0", "--models", made.models_dir]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            curl = shlex.split(next(line for line in process.stderr if line.startswith("  curl")))
            reply = httpx.post(curl[2], content=curl[-1], headers=dict([curl[4].split(": ")]), trust_env=False)
        finally:
            process.terminate()
            process.communicate()
    assert json.loads(curl[-1]) == {"text": "ab'c"}
    assert reply.status_code == 200, reply.text
    assert reply.json()["tokens"] == [["a", "b", "'", "c"]]


class TestGreeting:
    def test_a_text_is_suggested_before_numbers(self, model_folder, suggested):
        model_folder("a").append(EXAMPLE.format("[1, 2, 3]"))
        model_folder("letters", LETTERS, input_size=4, head=(4,))
        assert suggested()[2] == f"{URL}/v1/models/letters/predict"

    def test_short_numbers_are_suggested_long_ones_are_not(self, model_folder, suggested):
        model = model_folder("a")
        model.append(EXAMPLE.format("[1, 2, 3]"))
        assert json.loads(suggested()[-1]) == {"inputs": [[1, 2, 3]]}
        model.edit("[1, 2, 3]", ", ".join(["[1, 2, 3]"] * 99))
        assert suggested() == ["curl", "-s", f"{URL}/v1/models/a"]

    def test_only_a_model_that_is_ready_is_suggested(self, model_folder, suggested):
        model_folder("a").weights().write_bytes(b"x")
        assert suggested() == ["curl", "-s", f"{URL}/v1/models"]
        model_folder("b")
        assert suggested() == ["curl", "-s", f"{URL}/v1/models/b"]

    def test_a_server_with_keys_wants_one(self, model_folder, suggested):
        model_folder("a")
        assert suggested(keyed=True) == ["curl", "-s", "-H", "X-API-Key: YOUR-KEY", f"{URL}/v1/models/a"]


class TestRefusals:
    def test_a_taken_port(self, model_folder, serve):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            status, said = serve("--models", model_folder().models_dir, "--port", port)
        assert (status, said) == (1, f"gatescope: cannot listen on 127.0.0.1, port {port}: Address already in use\n")

    def test_a_folder_of_models_that_is_none(self, tmp_path, serve):
        (tmp_path / "file").touch()
        for name, why in (("missing", "does not exist"), ("file", "is no folder")):
            status, said = serve("--models", tmp_path / name)
            assert (status, said) == (1, f"gatescope: the folder of models '{tmp_path / name}' {why}\n")

    def test_an_empty_folder_of_models_is_served_with_a_warning(self, tmp_path, serve, monkeypatch):
        monkeypatch.setattr(
            "gatescope.server.api.server.Server.run", lambda _, sockets: sockets[0].close()
        )  # which leaves it unstarted
        status, said = serve("--models", tmp_path, "--port", 0)
        assert status == 1
        assert "there is no model in the folder of models" in said
        assert "warning" in said

    @pytest.mark.parametrize(
        ("host", "keys", "warned"),
        [("0.0.0.0", "", True), ("127.0.0.1", "", False), ("0.0.0.0", "API", False), ("0.0.0.0", "ADMIN", False)],  # noqa: S104
    )
    def test_whoever_may_change_the_models_is_warned_of(self, model_folder, serve, monkeypatch, host, keys, warned):
        monkeypatch.setattr("gatescope.server.api.server.Server.run", lambda _, sockets: sockets[0].close())
        if keys:
            monkeypatch.setenv(f"GATESCOPE_{keys}_KEYS", "secret")
        _, said = serve("--models", model_folder().models_dir, "--port", 0, "--host", host)
        assert ("GATESCOPE_ADMIN_KEYS would keep them out" in said) == warned

    def test_a_gpu_where_there_is_none(self, model_folder, serve, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        status, said = serve("--models", model_folder().models_dir, "--device", "cuda")
        assert status == 1
        assert re.fullmatch(r"gatescope: device 'cuda': PyTorch .*; take 'cpu' or 'auto'\n", said)

    @pytest.mark.parametrize(
        ("variable", "value"), [("PORT", "abc"), ("PORT", "99999"), ("LOG_FORMAT", "xml"), ("DEVICE", "gpu")]
    )
    def test_a_setting_that_does_not_fit_is_named(self, serve, monkeypatch, variable, value):
        monkeypatch.setenv(f"GATESCOPE_{variable}", value)
        status, said = serve()
        assert status == 1
        assert re.fullmatch(rf"gatescope: GATESCOPE_{variable}: .*, not '{value}'\n", said)

    def test_so_is_a_flag(self, serve):
        assert serve("--port", 99999) == (
            1,
            "gatescope: --port: Input should be less than or equal to 65535, not 99999\n",
        )


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")],  # noqa: S104
)
def test_the_url_is_one_that_reaches_it(host, shown):
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    (listener,) = listen(host, 0)
    with listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://{shown}:{port}"
        socket.create_connection((shown.strip("[]"), port), timeout=5).close()


def test_the_containers_health_check_follows_the_port(shipped):
    check = json.loads(re.search(r"HEALTHCHECK.*\n\s*CMD (\[.*\])", (ROOT / "Dockerfile").read_text())[1])
    command = [sys.executable, *check[1:]]
    for port, status in ((shipped.base_url.port, 0), (9, 1)):
        result = subprocess.run(command, env={"GATESCOPE_PORT": str(port)}, capture_output=True, check=False)
        assert result.returncode == status, result.stderr
