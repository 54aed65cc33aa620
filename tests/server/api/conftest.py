"""A real uvicorn with small models of every kind, for all tests of the API."""

import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gatescope.pipeline.pipeline import Pipeline
from gatescope.server.api import server
from gatescope.server.main import create_app
from gatescope.server.settings import Settings
from tests.server.api.helpers import PREDICT, numbered
from tests.serving import NO_TLS, USUAL, serving

FEATURES = 'kind = "features"\nfeatures = [{}]'

MANIFESTS = {
    "founding": """
        description = "the founding example: nn.LSTM(5, 6, 2)"
        [input]
        kind = "features"
        features = [{name = "a"}, {name = "b"}, {name = "c"}, {name = "d"}, {name = "e"}]
    """,
    "both-ways": """
        description = "two layers, both directions, projected"
        [input]
        kind = "features"
        features = [{name = "x"}, {name = "y"}, {name = "z"}]
    """,
    "forecaster": """
        description = "the next hour's level"
        task = "regression"
        [input]
        kind = "features"
        features = [{name = "level", mean = 10.0, std = 2.0}, {name = "hour", period = 24}]
        [head]
        [output]
        names = ["level"]
        mean = [10.0]
        std = [2.0]
        predicts = "next_step"
        [[examples]]
        title = "two hours"
        request = {inputs = [[[10.0, 0.0], [11.0, 1.0]]]}
    """,
    "river": """
        description = "discharge of the same day at two gauges"
        task = "regression"
        [input]
        kind = "features"
        features = [{name = "rain"}, {name = "gauge", categories = [7, 9]}]
        [head]
        [output]
        names = ["discharge"]
        minimum = [0.0]
    """,
    "letters": """
        description = "the next letter"
        task = "next_token"
        [input]
        kind = "tokens"
        vocabulary = "characters"
        characters = "abc "
        [head]
        [output]
        temperature = 0.8
        seed = 3
    """,
    "mood": """
        description = "a sentence's mood"
        task = "classification"
        [input]
        kind = "tokens"
        vocabulary = "words"
        file = "vocabulary.txt"
        unknown = "token"
        unknown_token = "<unknown>"
        [head]
        steps = "mean"
        [output]
        labels = ["glad", "sad", "neither"]
    """,
    "ids": """
        description = "the next of six tokens that nobody has named"
        task = "next_token"
        [input]
        kind = "tokens"
        vocabulary = "ids"
        size = 6
        [head]
    """,
    "contradicting": """
        description = "says 7 units, has 6"
        [input]
        kind = "features"
        features = [{name = "a"}, {name = "b"}, {name = "c"}, {name = "d"}, {name = "e"}]
        [lstm]
        hidden_size = 7
    """,
}

LSTMS = {
    "founding": (5, 6, 2),
    "both-ways": {"input_size": 3, "hidden_size": 4, "num_layers": 2, "bidirectional": True, "proj_size": 2},
    "forecaster": (3, 8),
    "river": (3, 8),
    "letters": (4, 8),
    "mood": (5, 8),
    "ids": (5, 8),
    "contradicting": (5, 6),
}
HEADS = {"forecaster": 1, "river": 1, "letters": 4, "mood": 3, "ids": 6}


@pytest.fixture(scope="session", autouse=True)
def _quiet(quiet):
    """In every test of the API."""


class Network(nn.Module):
    """A trained model as its owner has it: embedding, LSTM, head."""

    def __init__(self, lstm, outputs, vocabulary=None):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, lstm.input_size) if vocabulary else None
        self.lstm = lstm
        self.head = nn.Sequential(nn.Linear(lstm.hidden_size, outputs)) if outputs else None


def _network(name):
    torch.manual_seed(len(name))
    arguments = LSTMS[name]
    lstm = nn.LSTM(**arguments) if isinstance(arguments, dict) else nn.LSTM(*arguments)
    return Network(lstm, HEADS.get(name), 6 if name in ("mood", "ids") else None).eval()


@pytest.fixture(scope="session")
def networks():
    """The modules behind the served models, by name."""
    return {name: _network(name) for name in MANIFESTS}


@pytest.fixture(scope="session")
def models_dir(networks, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, manifest in MANIFESTS.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "model.toml").write_text(manifest)
        save_file(networks[name].state_dict(), root / name / "1" / "model.safetensors")
    (root / "mood" / "vocabulary.txt").write_text("<unknown>\nsun\nrain\nis\nhere\n.\n")
    (root / "weightless").mkdir()
    (root / "weightless" / "model.toml").write_text(MANIFESTS["founding"])
    return root


@pytest.fixture(scope="session")
def client(models_dir):
    with serving(models_dir) as client:
        yield client


@pytest.fixture(scope="session")
def serve(models_dir):
    """`with serve(max_queue_size=1) as client:` — a server of its own with other settings."""
    return lambda **settings: serving(models_dir, **settings)


@dataclass(frozen=True)
class Reply:
    """What came back over a `Wire`."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes

    @property
    def alike(self):
        """All that must be the same in another reply to the same request."""
        return self.status, [pair for pair in self.headers if pair[0] not in ("date", "x-request-id")], self.content

    def json(self):
        return json.loads(self.content)

    def __getitem__(self, name):
        """The only header of this name."""
        (value,) = (value for known, value in self.headers if known == name)
        return value


class Wire:
    """A connection of our own: it sends whatever bytes, and reads one reply after the other."""

    def __init__(self, client):
        self.socket = socket.create_connection((client.base_url.host, client.base_url.port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = self.socket.makefile("rb")

    @staticmethod
    def written(path, content, *headers, method="POST", version="1.1", content_type="application/json"):
        """A request with these bytes as its body, and these lines beside the headers that it needs."""
        first = f"{method} {path} HTTP/{version}", "Host: a", f"Content-Type: {content_type}"
        lines = (*first, f"Content-Length: {len(content)}", *headers)
        return b"".join(line.encode("latin-1") + b"\r\n" for line in lines) + b"\r\n" + content

    def send(self, *parts):
        self.socket.sendall(b"".join(parts))

    def post(self, path, content, *headers, **others):
        """The reply to a request as `written` makes it."""
        self.send(self.written(path, content, *headers, **others))
        return self.reply(has_content=others.get("method") != "HEAD")

    def reply(self, *, has_content=True):
        """The next reply; interim ones are passed over."""
        status, headers = self.head()
        while status < 200:
            status, headers = self.head()
        size = int(dict(headers)["content-length"]) if has_content else 0
        return Reply(status, headers, self._read.read(size))

    def head(self):
        """The status and the headers of the next reply, interim ones too."""
        version, status, _ = self._read.readline().split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = []
        while line := self._read.readline().rstrip(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(": ")
            headers.append((name, value))
        return int(status), headers

    def rest(self):
        """All that comes until the server closes."""
        return self._read.read()

    def is_closed(self):
        """Whether the server sends no more."""
        try:
            return self._read.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self._read.close()
        self.socket.close()


@pytest.fixture
def dial():
    """`dial(client)`: a `Wire` to its server."""
    with contextlib.ExitStack() as stack:
        yield lambda client: stack.enter_context(contextlib.closing(Wire(client)))


@pytest.fixture(scope="session")
def expected(networks):
    """`expected(number, steps)`: the output for the body `numbered(number, steps)`."""
    lstm = networks["founding"].lstm

    def output(number, steps=1):
        inputs = torch.tensor([[[number / 10, 0.1, 0.2, 0.3, 0.4]]] * steps)
        return pytest.approx(lstm(inputs)[0][:, 0].detach().numpy(), abs=1e-5)

    return output


class Gate:
    """Holds up whatever is computed between `shut` and `open.set`."""

    def __init__(self):
        self.open, self.reached = threading.Event(), threading.Event()
        self.batches = []  # the first features of the sequences of each
        self.open.set()

    def shut(self):
        self.batches.clear()
        self.reached.clear()
        self.open.clear()

    def pass_(self, query):
        self.batches.append([round(float(np.asarray(row).ravel()[0]), 4) for row in query.inputs])
        self.reached.set()
        assert self.open.wait(15)


@pytest.fixture
def gate(monkeypatch, on_device):
    """A gate before each batch, on the device's thread."""
    held, answer = Gate(), Pipeline.answer

    def slowly(self, query):
        held.pass_(query)
        return answer(self, query)

    monkeypatch.setattr(Pipeline, "answer", slowly)
    yield held
    held.open.set()


@pytest.fixture
def busy(gate, dial):
    """`busy(client)`: a connection whose request is being computed until the gate opens."""

    def begin(client):
        gate.shut()
        wire = dial(client)
        wire.send(wire.written(PREDICT, numbered(0)))
        assert gate.reached.wait(10)
        return wire

    return begin


@pytest.fixture(scope="session")
def running(models_dir):
    """`with running(…) as client:` — the service as `gatescope serve` runs it; `client.server` is to be told things."""

    @contextlib.contextmanager
    def run(**given):
        settings = Settings(models_dir=models_dir, **USUAL | given)
        app, greeted, sockets = create_app(settings), threading.Event(), server.listen("127.0.0.1", 0)
        service = server.Server(app, settings.shutdown_timeout_s, settings.max_body_bytes, lambda _: greeted.set())
        thread = threading.Thread(target=service.run, args=[sockets])
        thread.start()
        assert greeted.wait(20)
        with httpx.Client(base_url=server.url_of(sockets[0]), timeout=30, **NO_TLS) as client:
            client.app, client.server, client.thread = app, service, thread
            yield client
        service.should_exit = True
        thread.join(10)
        assert not thread.is_alive()

    return run


@pytest.fixture(scope="session")
def call(client):
    """POST a body and take its reply, which must be 200."""

    def post(path, body, **arguments):
        reply = client.post(f"/v1/models/{path}", json=body, **arguments)
        assert reply.status_code == 200, reply.text
        return SimpleNamespace(**reply.json()) if "json" in reply.headers["content-type"] else reply.content

    return post
