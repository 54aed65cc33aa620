"""What takes long is read and written on another thread: the same answers, and nobody waits for it."""

import asyncio
import gc
import json
import threading
import time

import numpy as np
import pytest
from safetensors.numpy import load, save
from websockets.sync.client import connect

from gatescope.server.api import codecs, offload
from gatescope.server.api.codecs.json import inputs, parsing, writing
from gatescope.server.api.v2 import message
from gatescope.server.api.v2.message import Output

SAFETENSORS = "application/vnd.safetensors"
LATER = "X-Request-Timeout-Ms: 20000"  # such a request is answered by the layers
NUMBERS = np.linspace(-2, 2, 4 * 30 * 5).round(3).reshape(4, 30, 5)
BATCH = {"inputs": NUMBERS.tolist()}
RAGGED = {"inputs": [rows[: 7 * index + 2].tolist() for index, rows in enumerate(NUMBERS)]}
WRONG = {"inputs": [[[1, 2, 3, 4, 5]], [[1, 2, 3, 4, "5"]], [[1, 2]]]}
FEATURES = save({"inputs": NUMBERS.astype(np.float32)})
TENSOR = {"name": "inputs", "datatype": "FP32", "shape": list(NUMBERS.shape), "data": NUMBERS.ravel().tolist()}
GATES = [{"name": name} for name in ("forget_gate", "output", "final_cell_state")]
BINARY = {"parameters": {"binary_data_output": True}}
PACKED = "Accept-Encoding: gzip"

# what it is: path, body, lines of the header
REQUESTS = {
    "a batch": ("/v1/models/founding/predict", BATCH),
    "several lengths": ("/v1/models/founding/predict", RAGGED),
    "a batch in binary": ("/v1/models/founding/predict", FEATURES, f"Accept: {SAFETENSORS}"),
    "what is wrong": ("/v1/models/founding/predict", WRONG),
    "what is no JSON": ("/v1/models/founding/predict", b'{"inputs": [[[1, 2'),
    "what is no tensor": ("/v1/models/founding/predict", b"\0" * 40, f"Accept: {SAFETENSORS}"),
    "a text": ("/v1/models/letters/predict", {"text": "abc " * 20}),
    "a trace": ("/v1/models/founding/trace", BATCH),
    "a ragged trace": ("/v1/models/founding/trace", RAGGED | {"outputs": ["output", "final_state"]}),
    "backwards": ("/v1/models/founding/trace", RAGGED | {"time": {"start": None, "stop": None, "step": -3}}),
    "a trace of both ways": ("/v1/models/both-ways/trace", {"inputs": NUMBERS[:, :, :3].tolist()}),
    "a trace in binary": ("/v1/models/founding/trace", BATCH, f"Accept: {SAFETENSORS}"),
    "a trace in npz": ("/v1/models/founding/trace", RAGGED, "Accept: application/x-npz"),
    "an explanation": ("/v1/models/founding/explain", {"inputs": BATCH["inputs"][:1], "unit": 2, "time_step": 3}),
    "a wrong one": ("/v1/models/founding/explain", {"inputs": BATCH["inputs"][:1], "unit": "2"}),
    "tensors": ("/v2/models/founding/infer", {"inputs": [TENSOR]}),
    "gates": ("/v2/models/founding/infer", {"inputs": [TENSOR], "outputs": GATES}),
    "gates in binary": ("/v2/models/founding/infer", {"inputs": [TENSOR], "outputs": GATES} | BINARY),
    "gates, packed": ("/v2/models/founding/infer", {"inputs": [TENSOR], "outputs": GATES}, PACKED),
    "gates in binary, packed": ("/v2/models/founding/infer", {"inputs": [TENSOR], "outputs": GATES} | BINARY, PACKED),
    "a wrong tensor": ("/v2/models/founding/infer", {"inputs": [TENSOR | {"data": [1, "2"]}]}),
}


def write_aside(monkeypatch):
    """Make every codec write its replies on another thread."""
    for writer in (*codecs.PREDICTION_WRITERS, *codecs.TRACE_WRITERS):
        monkeypatch.setattr(writer, "max_loop_bytes", 0, raising=False)


@pytest.fixture
def all_aside(monkeypatch):
    """Everything takes long, and comes in pieces of a few numbers; yields the threads that wrote some."""
    threads, write = set(), writing.dumps

    def noted(value, **others):
        threads.add(threading.current_thread().name)
        return write(value, **others)

    def begin():
        monkeypatch.setattr(offload, "MAX_LOOP_BYTES", 0)
        write_aside(monkeypatch)
        monkeypatch.setattr(writing, "PIECE_BYTES", 64)
        monkeypatch.setattr(writing, "dumps", noted)
        return threads

    return begin


def asked(wire, request):
    """The replies to a request, the first, the second and the slow way."""
    path, body, *lines = request
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = SAFETENSORS if body is FEATURES or request == REQUESTS["what is no tensor"] else "application/json"
    return [wire.post(path, content, *lines, *more, content_type=kind) for more in ((), (), (LATER,))]


@pytest.mark.parametrize("name", REQUESTS)
def test_the_answer_is_the_same(name, client, dial, all_aside):
    here = asked(dial(client), REQUESTS[name])
    threads = all_aside()
    there = asked(dial(client), REQUESTS[name])
    assert len({str(each.alike) for each in (*here, *there)}) == 1
    if here[0].status == 200 and "explanation" not in name:  # which is always small
        assert threads.isdisjoint({client.thread.name})


def test_a_step_of_a_session_is_the_same(client, dial, all_aside):
    def steps(name, rows):
        client.post("/v1/sessions", json={"model": "founding", "session_id": name})
        wire, path = dial(client), f"/v1/sessions/{name}/steps"
        body = {"inputs": rows.tolist(), "trace": True}
        replies = [wire.post(path, json.dumps(body).encode(), *more).json() for more in ((), (LATER,))]
        with connect(f"{str(client.base_url).replace('http', 'ws')}/v1/sessions/{name}/stream") as stream:
            stream.send(json.dumps(body))
            replies.append(json.loads(stream.recv()))
            stream.send(save({"inputs": rows[None].astype(np.float32)}))
            final = load(stream.recv())["output"]
        client.delete(f"/v1/sessions/{name}")
        return [each | {"session_id": ""} for each in replies], final.tolist()

    here = steps("here", NUMBERS[0])
    all_aside()
    assert steps("there", NUMBERS[0]) == here


@pytest.fixture
def held_up(monkeypatch):
    """Large replies are written when `go_on` is set; `begun` tells that one waits."""
    begun, go_on, pieces = threading.Event(), threading.Event(), codecs.JSON.encode_pieces

    def waiting(*arguments):
        begun.set()
        assert go_on.wait(20)
        return pieces(*arguments)

    write_aside(monkeypatch)
    monkeypatch.setattr(codecs.JSON, "encode_pieces", waiting)
    yield begun, go_on
    go_on.set()


def until(reached, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def count_of_those_who_left(client):
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if "requests_total{" in line and 'status="499"' in line)


@pytest.mark.parametrize("lines", [(), (LATER,)], ids=["quick", "slow"])
class TestWhileAReplyIsWritten:
    def request(self, wire, lines):
        return wire.written("/v1/models/founding/trace", json.dumps(BATCH).encode(), *lines)

    def test_others_are_answered(self, client, dial, held_up, lines):
        begun, go_on = held_up
        wire = dial(client)
        wire.send(self.request(wire, lines))
        assert begun.wait(10)
        small = client.post("/v2/models/founding/infer", json={"inputs": [TENSOR]} | BINARY)
        assert small.status_code == 200
        go_on.set()
        assert len(wire.reply().json()["signals"]) == 6

    def test_its_time_may_be_over(self, serve, dial, held_up, lines):
        begun, go_on = held_up
        with serve(request_timeout_s=0.5) as client:
            wire = dial(client)
            wire.send(self.request(wire, lines))
            assert begun.wait(10)
            late = wire.reply()
            assert (late.status, late.json()["title"]) == (504, "DeadlineExceeded")
            go_on.set()
            assert wire.post("/v2/models/founding/infer", json.dumps({"inputs": [TENSOR]}).encode()).status == 200

    def test_of_clients_that_left_none_is_written_that_was_not_begun(self, client, dial, held_up, lines, monkeypatch):
        (_, go_on), begun, held = held_up, [], codecs.JSON.encode_pieces
        monkeypatch.setattr(codecs.JSON, "encode_pieces", lambda *given: begun.append(1) or held(*given))
        engine = client.app.state.context.engine
        computed = engine.statistics(engine.model("founding")).success
        answered, left = computed.count, count_of_those_who_left(client)
        wires = [dial(client) for _ in range(5)]
        for wire in wires:
            wire.send(self.request(wire, lines))
        until(lambda: computed.count == answered + 5 and len(begun) == 2)
        for wire in wires:
            wire.close()
        until(lambda: count_of_those_who_left(client) == left + 5)
        client.get("/health/live")  # what is cancelled is told so in the event loop's next turn
        go_on.set()
        assert len(dial(client).post("/v1/models/founding/trace", json.dumps(BATCH).encode(), *lines).json()) > 6
        assert len(begun) == 2 + 1  # those that were begun, and the one of the client that stayed

    def test_its_client_may_leave(self, client, dial, held_up, lines):
        begun, go_on = held_up
        wire = dial(client)
        wire.send(self.request(wire, lines))
        assert begun.wait(10)
        wire.close()
        go_on.set()
        other = dial(client)
        assert len(other.post("/v1/models/founding/trace", json.dumps(BATCH).encode(), *lines).json()["signals"]) == 6

    def test_it_may_fail(self, client, dial, monkeypatch, lines):
        def failing(*_):
            raise MemoryError

        write_aside(monkeypatch)
        monkeypatch.setattr(codecs.JSON, "encode_pieces", failing)
        wire = dial(client)
        wire.send(self.request(wire, lines))
        broken = wire.reply()
        assert (broken.status, broken.json()["title"]) == (500, "InternalError")
        monkeypatch.undo()
        assert wire.post("/v1/models/founding/trace", json.dumps(BATCH).encode(), *lines).status == 200


def test_the_collector_is_on_again_when_the_last_of_several_readers_is_done():
    assert gc.isenabled()
    with parsing._without_collector:
        with parsing._without_collector:
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off():
    gc.disable()
    try:
        with parsing._without_collector:
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_parser_that_has_read_much_is_not_kept(monkeypatch):
    kept = inputs._parser(b"[1]")
    assert inputs._parser(b"[1]") is kept
    monkeypatch.setattr(offload, "MAX_LOOP_BYTES", 2)
    assert inputs._parser(b"[1]") is not kept


def test_tensors_of_some_pieces_that_are_not_large_are_written_at_once(monkeypatch):
    monkeypatch.setattr(writing, "PIECE_BYTES", 64)
    monkeypatch.setattr(writing, "pieces", None)
    outputs = [Output("output", np.ones((1, 4, 30), dtype=np.float32), binary=False)]
    reply = asyncio.run(message.respond({"model_name": "a"}, outputs, None))
    assert len(reply.pieces) == 1
    assert json.loads(reply.pieces[0])["outputs"][0]["shape"] == [1, 4, 30]
