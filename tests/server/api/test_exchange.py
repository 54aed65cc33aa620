"""One request's life: ids, errors, clients that leave, steps of sessions, what is counted, and what stays in memory."""

import contextlib
import gc
import json
import logging
import socket
import time
import types

import numpy as np
import pytest
import torch

from gatescope.pipeline.pipeline import Pipeline
from gatescope.pipeline.query import Query
from gatescope.server import logs
from gatescope.server.api.messages import Request
from gatescope.server.serving.session import SessionKey
from tests.server.api.helpers import GOOD, PREDICT, count, numbered, until, waiting

STEPS = "/v1/sessions/a/steps"


class TestIds:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v1/models", 200),
            ("GET", "/health/live", 200),
            ("GET", "/", 200),
            ("GET", "/openapi.json", 200),
            ("GET", "/nowhere", 404),
            ("PUT", PREDICT, 405),
            ("POST", PREDICT, 200),
            ("POST", "/v1/models/nobody/predict", 404),
            ("GET", "/v2", 200),
            ("POST", "/v2/models/nobody/infer", 404),
            ("OPTIONS", PREDICT, 405),
        ],
    )
    def test_every_reply_has_one(self, client, method, path, status):
        content = {"content": GOOD} if status == 200 and method == "POST" else {}
        headers = {"Content-Type": "application/json"}
        made = [client.request(method, path, headers=headers, **content) for _ in range(2)]
        assert [reply.status_code for reply in made] == [status] * 2
        assert made[0].headers["x-request-id"] != made[1].headers["x-request-id"]
        echoed = client.request(method, path, headers=headers | {"X-Request-ID": "mine-1"}, **content)
        assert echoed.headers.get_list("x-request-id") == ["mine-1"]

    @pytest.mark.parametrize("given", ["a b", "x" * 129, "caf\xe9", 'a"} forged', ""])
    def test_what_cannot_be_one_is_replaced(self, client, dial, given):
        reply = dial(client).post(PREDICT, GOOD, f"X-Request-ID: {given}")
        assert reply.status == 200
        assert reply["x-request-id"] not in (given, "")

    def test_a_refused_one_has_its_id_too(self, serve):
        with serve(api_keys=("k",)) as client:
            reply = client.post(PREDICT, headers={"X-Request-ID": "mine-2"})
            assert (reply.status_code, reply.headers["x-request-id"]) == (401, "mine-2")


class TestErrors:
    def test_an_unforeseen_one_is_told_and_logged(self, serve, dial, monkeypatch, caplog):
        def fail(self, query):
            raise RuntimeError("the secret inside")

        with serve() as client:
            wire = dial(client)
            with monkeypatch.context() as patch:
                patch.setattr(Pipeline, "answer", fail)
                reply = wire.post(PREDICT, GOOD, "X-Request-ID: failing-1")
            assert wire.post(PREDICT, GOOD).status == 200
            assert (count(client, 500), count(client, 200)) == (1, 1)
        assert (reply.status, reply.json()["title"], reply["x-request-id"]) == (500, "InternalError", "failing-1")
        assert b"secret" not in reply.content
        (line,) = (record.msg for record in caplog.records if record.levelno == logging.ERROR)
        assert (line["event"], line["request_id"]) == ("request failed", "failing-1")

    def test_one_of_the_framework_is_told_alike(self, serve, monkeypatch, caplog):
        with serve() as client:
            engine = client.app.state.context.engine
            monkeypatch.setattr(engine, "entries", lambda: 1 / 0)
            reply = client.get("/v1/models")
        assert (reply.status_code, reply.json()["title"]) == (500, "InternalError")
        assert [record.msg["event"] for record in caplog.records if record.levelno == logging.ERROR] == [
            "request failed"
        ]

    def test_a_poisoned_request_fails_alone(self, serve, dial, gate, busy, monkeypatch, expected):
        held = Pipeline.answer

        def failing(self, query):
            if bool((query.inputs == np.float32(9.9)).any()):
                raise RuntimeError("poison")
            return held(self, query)

        monkeypatch.setattr(Pipeline, "answer", failing)
        with serve() as client:
            first, others = busy(client), [dial(client) for _ in range(3)]
            for wire, number in zip(others, (1, 99, 3), strict=True):
                wire.send(wire.written(PREDICT, numbered(number)))
                until(lambda wire=wire: waiting(client) == others.index(wire) + 1)
            gate.open.set()
            replies = [wire.reply() for wire in (first, *others)]
            assert [reply.status for reply in replies] == [200, 200, 500, 200]
            assert np.array(replies[1].json()["output"][0]) == expected(1)
            assert np.array(replies[3].json()["output"][0]) == expected(3)


class TestLeaving:
    def test_of_a_client_in_the_queue_nothing_is_computed(self, serve, dial, gate, busy):
        with serve() as client:
            first, leaving, staying = busy(client), dial(client), dial(client)
            leaving.send(leaving.written(PREDICT, numbered(7)))
            staying.send(staying.written(PREDICT, numbered(8)))
            until(lambda: waiting(client) == 2)
            leaving.close()
            until(lambda: waiting(client) == 1)
            until(lambda: count(client, 499) == 1)
            gate.open.set()
            assert first.reply().status == staying.reply().status == 200
            assert gate.batches == [[0.0], [0.8]]
            assert (count(client, 200), count(client, 499)) == (2, 1)

    def test_a_client_with_a_known_head_is_noticed_too(self, serve, dial, gate, busy):
        with serve() as client:
            leaving = dial(client)
            leaving.post(PREDICT, GOOD)
            held = busy(client)
            leaving.send(leaving.written(PREDICT, numbered(7)))
            until(lambda: waiting(client) == 1)
            leaving.close()
            until(lambda: count(client, 499) == 1)
            gate.open.set()
            assert held.reply().status == 200
            assert gate.batches == [[0.0]]

    def test_a_client_that_resets_is_noticed_at_once(self, serve, dial, gate, busy):
        with serve() as client:
            held, leaving = busy(client), dial(client)
            leaving.send(leaving.written(PREDICT, numbered(7)))
            until(lambda: waiting(client) == 1)
            leaving.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            leaving.close()
            until(lambda: count(client, 499) == 1)
            gate.open.set()
            assert held.reply().status == 200

    @pytest.mark.parametrize("cut", [-1, -len(GOOD)])
    def test_a_client_that_leaves_during_its_upload_is_counted(self, client, dial, cut):
        before = count(client, 499)
        wire = dial(client)
        wire.send(wire.written(PREDICT, GOOD)[:cut])
        client.get("/health/live")  # its head is read by now
        wire.close()
        until(lambda: count(client, 499) == before + 1)

    def test_while_it_is_computed_nobody_notices(self, serve, dial, gate, busy, expected):
        with serve() as client:
            busy(client).close()
            until(lambda: count(client, 499) == 1)
            other = dial(client)
            other.send(other.written(PREDICT, numbered(8)))
            until(lambda: waiting(client) == 1)
            gate.open.set()
            assert np.array(other.reply().json()["output"][0]) == expected(8)
            assert count(client, 500) == 0

    def test_what_was_sent_ahead_harms_nobody(self, serve, dial, gate, busy, expected):
        with serve() as client:
            wire = busy(client)
            wire.send(wire.written(PREDICT, numbered(1)), wire.written(PREDICT, numbered(2), "X: y"))
            wire.close()
            until(lambda: count(client, 499) == 1)
            gate.open.set()
            assert np.array(dial(client).post(PREDICT, numbered(3)).json()["output"][0]) == expected(3)
            assert (count(client, 500), count(client, 200)) == (0, 1)

    def test_a_step_in_the_queue_is_not_taken(self, serve, dial, gate, busy):
        with serve() as client:
            name = client.post("/v1/sessions", json={"model": "founding"}).json()["session_id"]
            first, leaving = busy(client), dial(client)
            leaving.send(leaving.written(f"/v1/sessions/{name}/steps", numbered(7)))
            until(lambda: waiting(client) == 1)
            leaving.close()
            until(lambda: waiting(client) == 0)
            gate.open.set()
            assert first.reply().status == 200
            assert client.get(f"/v1/sessions/{name}").json()["steps"] == 0
            assert dial(client).post(f"/v1/sessions/{name}/steps", numbered(1)).json()["steps"] == 1

    def test_who_only_ends_sending_gets_the_reply(self, serve, dial, gate, busy, expected):
        with serve() as client:
            first, second = busy(client), dial(client)
            second.send(second.written(PREDICT, numbered(1)), second.written(PREDICT, numbered(2)))
            for wire in (first, second):
                wire.socket.shutdown(socket.SHUT_WR)
            time.sleep(0.4)  # for longer than who has left is kept
            assert count(client, 499) == 0
            gate.open.set()
            assert np.array(first.reply().json()["output"][0]) == expected(0)
            assert [np.array(second.reply().json()["output"][0]) == expected(number) for number in (1, 2)] == [True] * 2
            assert first.is_closed()
            assert second.is_closed()


class TestSteps:
    """Of a session, while it is ended or moved."""

    @pytest.fixture
    def opened(self, serve):
        with serve() as client:
            client.post("/v1/sessions", json={"model": "founding", "session_id": "a"})
            yield client

    def test_an_end_waits_for_the_step_that_was_begun(self, opened, dial, gate):
        gate.shut()
        step, end, late = (dial(opened) for _ in range(3))
        step.send(step.written(STEPS, numbered(1)))
        assert gate.reached.wait(10)
        end.send(end.written("/v1/sessions/a", b"", method="DELETE"))
        until(lambda: steps_in_line(opened) == 2)
        late.send(late.written(STEPS, numbered(2)))
        until(lambda: steps_in_line(opened) == 3)
        gate.open.set()
        assert (step.reply().status, late.reply().status, end.head()[0]) == (200, 404, 204)
        assert opened.get("/v1/sessions/a").status_code == 404

    def test_a_state_is_put_between_two_steps(self, opened, dial, gate, networks):
        gate.shut()
        step, put, late = (dial(opened) for _ in range(3))
        state = {"hidden_state": [[[0.5] * 6]] * 2, "cell_state": [[[-0.25] * 6]] * 2}
        step.send(step.written(STEPS, numbered(1)))
        assert gate.reached.wait(10)
        put.send(put.written("/v1/sessions/a/state", json.dumps(state).encode(), method="PUT"))
        until(lambda: steps_in_line(opened) == 2)
        late.send(late.written(STEPS, numbered(2)))
        until(lambda: steps_in_line(opened) == 3)
        gate.open.set()
        assert (step.reply().status, put.reply().status) == (200, 200)
        told = late.reply().json()
        inputs = torch.tensor([[[0.2, 0.1, 0.2, 0.3, 0.4]]])
        output, _ = networks["founding"].lstm(inputs, tuple(torch.tensor(state[name]) for name in state))
        assert (told["steps"], np.array(told["output"][0])) == (2, pytest.approx(output[0].detach().numpy(), abs=1e-6))

    def test_a_session_that_expires_under_its_step_is_gone(self, serve, dial, gate):
        with serve(session_idle_timeout_s=0.5) as client:
            gate.shut()
            client.post("/v1/sessions", json={"model": "founding", "session_id": "a"})
            wire = dial(client)
            wire.send(wire.written(STEPS, numbered(1)))
            assert gate.reached.wait(10)
            time.sleep(0.55)
            gate.open.set()
            reply = wire.reply()
            assert (reply.status, reply.json()["title"]) == (404, "SessionNotFound")


def steps_in_line(client):
    """How many wait for session `a`, and the one whose turn it is."""
    return client.app.state.context.sessions._locks.users(SessionKey("", "a"))


class TestTold:
    def test_each_request_is_counted_once_and_logged_once(self, serve, dial, monkeypatch):
        lines = []
        monkeypatch.setattr(logs, "access", lambda *line: lines.append(line))
        with serve() as client:
            client.post("/v1/sessions", json={"model": "founding", "session_id": "a"})
            wire, routes = dial(client), ("{name}/predict", "{name}/versions/{version}/predict")
            lines.clear()
            sent = [PREDICT, PREDICT, "/v1/models/founding/versions/1/predict", STEPS, f"{PREDICT}?a=b"]
            for index, path in enumerate(sent):
                assert wire.post(path, GOOD, f"X-Request-ID: a-{index}").status == 200
            assert wire.post(PREDICT, b'{"inputs":[[1]]}', "X-Request-ID: a-5").status == 422
            assert wire.post("/v1/models/founding", b"", "X-Request-ID: a-6", method="GET").status == 200
            told = [*lines]
            assert [count(client, 200, f"/v1/models/{route}") for route in routes] == [3, 1]
            assert count(client, 200, "/v1/sessions/{session_id}/steps") == 1
            assert count(client, 422) == 1
            assert count(client, 200, "/v1/models/{name}", "GET") == 1
            text = client.get("/metrics").text
        assert 'gatescope_request_seconds_count{method="POST",route="/v1/models/{name}/predict"} 4.0' in text
        assert [(method, path, status) for method, path, status, *_ in told] == [
            *(("POST", path.partition("?")[0], 200) for path in sent),
            ("POST", PREDICT, 422),
            ("GET", "/v1/models/founding", 200),
        ]
        assert [line[4] for line in told] == [f"a-{index}" for index in range(7)]
        assert all(0 < line[3] < 10 for line in told)


LARGE = json.dumps({"inputs": [[1.0, 2.0, 3.0, 4.0, 5.0]] * 14_000}).encode()
"""So large that it is read aside."""

TENSOR = b'{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}'
ASKED = {
    "predict": (PREDICT, GOOD),
    "large": (PREDICT, LARGE),
    "trace": ("/v1/models/founding/trace", GOOD),
    "step": (STEPS, GOOD),
    "stored": ("/v1/traces", b'{"model":"founding","inputs":[[1,2,3,4,5]]}'),
    "infer": ("/v2/models/founding/infer", b'{"inputs":[%b]}' % TENSOR),
    "timed": ("/v2/models/founding/infer", b'{"inputs":[%b],"parameters":{"timeout":300000}}' % TENSOR),
}


class Memory:
    """What is alive of requests, while nobody collects cyclic garbage."""

    KINDS = Request, Query

    def __init__(self):
        self._before = {id(each) for each in self._all()}

    def _all(self):
        return [each for each in gc.get_objects() if type(each) in self.KINDS]

    def more(self):
        """Those that were not alive at the beginning."""
        return [each for each in self._all() if id(each) not in self._before]

    def assert_nothing_more(self):
        with contextlib.suppress(AssertionError):
            until(lambda: not self.more(), 1.5)
        more = self.more()
        assert not more, f"{len(more)} alive, the first is held by:\n{holders_of(more[0])}"


def holders_of(each, levels=12):
    """A chain of references that leads to this."""
    told, seen = [type(each).__name__], {id(each)}
    for _ in range(levels):
        found = [
            holder
            for holder in gc.get_referrers(each)
            if id(holder) not in seen
            and not (isinstance(holder, types.FrameType) and "tests" in holder.f_code.co_filename)
            and type(holder) is not list  # of the collector itself
        ]
        if not found:
            break
        each = found[0]
        seen.add(id(each))
        told.append(f"{type(each).__name__} {str(each)[:150]}")
    return "\n  in ".join(told)


@pytest.fixture
def memory():
    """`memory()`: from there on; nothing is collected before the test ends, and no log keeps tracebacks."""
    logging.disable()
    gc.collect()
    gc.disable()
    yield Memory
    gc.enable()
    logging.disable(logging.NOTSET)


class TestMemory:
    """Whatever becomes of a request, what it held is free at once: the collector counts objects, not bytes."""

    @pytest.fixture
    def opened(self, serve):
        with serve(max_queue_size=2, admission_wait_ms=100.0) as client:
            assert client.post("/v1/sessions", json={"model": "founding", "session_id": "a"}).status_code == 201
            yield client

    @staticmethod
    def ask(client, dial, name, *headers):
        wire = dial(client)
        path, body = ASKED[name]
        wire.send(wire.written(path, body, *headers))
        return wire

    def warm(self, client, dial):
        """Templates are kept, and so is the last head of a connection."""
        for name in ASKED:
            assert self.ask(client, dial, name).reply().status in (200, 201)
        assert dial(client).post(PREDICT, numbered(0)).status == 200

    @pytest.mark.parametrize("name", [name for name in ASKED if name != "stored"])  # a stored trace keeps its query
    def test_after_the_reply(self, opened, dial, memory, name):
        self.warm(opened, dial)
        before = memory()
        for _ in range(3):
            assert self.ask(opened, dial, name).reply().status in (200, 201)
        before.assert_nothing_more()

    @pytest.mark.parametrize("name", ASKED)
    def test_after_a_client_has_left(self, opened, dial, gate, busy, memory, name):
        self.warm(opened, dial)
        before = memory()
        held, leaving = busy(opened), self.ask(opened, dial, name)
        until(lambda: waiting(opened) == 1)
        leaving.close()
        until(lambda: waiting(opened) == 0)
        gate.open.set()
        assert held.reply().status == 200
        before.assert_nothing_more()

    @pytest.mark.parametrize("name", ASKED)
    def test_after_a_client_has_left_that_was_computed_for(self, opened, dial, gate, memory, name):
        self.warm(opened, dial)
        before = memory()
        gate.shut()
        leaving = self.ask(opened, dial, name)
        assert gate.reached.wait(10)
        leaving.close()
        until(lambda: 'status="499"' in opened.get("/metrics").text)
        gate.open.set()
        before.assert_nothing_more()

    @pytest.mark.parametrize("name", ASKED)
    def test_after_a_deadline(self, opened, dial, gate, busy, memory, name):
        self.warm(opened, dial)
        before = memory()
        held = busy(opened)
        assert self.ask(opened, dial, name, "X-Request-Timeout-Ms: 300").reply().status == 504
        gate.open.set()
        assert held.reply().status == 200
        before.assert_nothing_more()

    @pytest.mark.parametrize("name", ASKED)
    def test_after_it_was_turned_away(self, opened, dial, gate, busy, memory, name):
        self.warm(opened, dial)
        before = memory()
        held, waits = busy(opened), self.ask(opened, dial, "predict")
        assert self.ask(opened, dial, name).reply().status == 429
        gate.open.set()
        assert held.reply().status == waits.reply().status == 200
        before.assert_nothing_more()

    @pytest.mark.parametrize("name", ASKED)
    def test_after_an_unforeseen_error(self, opened, dial, memory, monkeypatch, name):
        def fail(self, query):
            raise RuntimeError("broken")

        self.warm(opened, dial)
        before = memory()
        monkeypatch.setattr(Pipeline, "answer", fail)
        assert self.ask(opened, dial, name).reply().status == 500
        monkeypatch.undo()
        before.assert_nothing_more()

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b'{"inputs":[[1,2,3,4,01]]}', 400),
            (b'{"inputs":[[1,2,3,4]]}', 422),
            (b'{"inputs":[[1,2,3,4,NaN]]}', 422),
            (LARGE[:-3] + b",6]]}", 422),
            (LARGE[:-1], 400),
        ],
        ids=["no JSON", "short", "NaN", "large", "large and no JSON"],
    )
    @pytest.mark.parametrize("path", [PREDICT, STEPS, "/v1/traces", "/v2/models/founding/infer"])
    def test_after_a_refusal(self, opened, dial, memory, path, body, status):
        before = memory()
        wire = dial(opened)
        assert wire.post(path, body).status in (400, status)
        before.assert_nothing_more()

    def test_after_a_client_has_left_in_its_body(self, opened, dial, memory):
        before = memory()
        wire = dial(opened)
        wire.send(wire.written(PREDICT, LARGE)[:-5])
        until(before.more)
        wire.close()
        before.assert_nothing_more()

    def test_after_a_deadline_in_its_body(self, opened, dial, memory):
        before = memory()
        wire = dial(opened)
        wire.send(wire.written(PREDICT, LARGE, "X-Request-Timeout-Ms: 100")[:-5])
        assert wire.reply().status == 504
        wire.close()
        before.assert_nothing_more()
