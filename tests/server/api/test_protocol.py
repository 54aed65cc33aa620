"""Connections: requests sent ahead, in pieces, or given up; errors from below; what is counted and logged."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SLOWLY = "X-Request-Timeout-Ms: 20000"
PREDICT = "/v1/models/founding/predict"
FORECAST = "/v1/models/forecaster/predict"
GOOD = b'{"inputs":[[1,2,3,4,5]]}'


def until(reached, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def count(client, status, route="/v1/models/{name}/predict"):
    """How many requests to a route were answered so."""
    named = f'gatescope_requests_total{{method="POST",route="{route}",status="{status}"}} '
    return next((float(line[len(named) :]) for line in client.get("/metrics").text.splitlines() if named in line), 0.0)


def numbered(number, steps=1):
    """A body, and what can be told of it in a reply: no two numbers give the same output."""
    return json.dumps({"inputs": [[[number / 10, 0.1, 0.2, 0.3, 0.4]] * steps]}).encode()


@pytest.fixture(scope="module")
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
        self.batches.append([round(float(row[0, 0]), 4) for row in query.inputs])
        self.reached.set()
        assert self.open.wait(8)


@pytest.fixture
def gate(monkeypatch):
    """A gate before each batch, on the device's thread."""
    from gatescope.pipeline.pipeline import Pipeline  # noqa: PLC0415
    from gatescope.server.serving import tuning  # noqa: PLC0415

    held, answer = Gate(), Pipeline.answer

    def slowly(self, query):
        held.pass_(query)
        return answer(self, query)

    monkeypatch.setattr(Pipeline, "answer", slowly)
    monkeypatch.setattr(tuning, "INLINE_NS", -1)
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


def waiting(client):
    return client.app.state.context.engine.waiting


class TestAhead:
    @pytest.mark.parametrize("slow", [(), range(10), range(0, 10, 2), range(1, 10, 2), (0, 1, 2, 7)], ids=str)
    def test_ten_requests_in_one_write_are_answered_in_order(self, client, dial, expected, slow):
        wire = dial(client)
        wire.send(*(wire.written(PREDICT, numbered(i, i % 3 + 1), *([SLOWLY] if i in slow else [])) for i in range(10)))
        for number in range(10):
            reply = wire.reply()
            assert reply.status == 200
            assert np.array(reply.json()["output"][0]) == expected(number, number % 3 + 1)

    def test_among_them_are_refused_ones_and_ones_to_other_routes(self, client, dial, expected):
        wire = dial(client)
        wire.send(
            wire.written(PREDICT, numbered(1)),
            wire.written(PREDICT, b'{"inputs":[[1,2,3,4,01]]}'),
            wire.written("/v1/models/nobody/predict", GOOD),
            wire.written("/v1/models/founding", b"", method="GET"),
            wire.written(FORECAST, b'{"inputs":[[1,2]]}'),
            wire.written("/v1/models/founding/trace", GOOD, "Accept: application/json"),
            wire.written(PREDICT, numbered(2)),
            wire.written(PREDICT, numbered(3), "Connection: close"),
        )
        replies = [wire.reply() for _ in range(8)]
        assert [reply.status for reply in replies] == [200, 400, 404, 200, 200, 200, 200, 200]
        assert np.array(replies[0].json()["output"][0]) == expected(1)
        assert np.array(replies[6].json()["output"][0]) == expected(2)
        assert np.array(replies[7].json()["output"][0]) == expected(3)
        assert wire.is_closed()

    @pytest.mark.parametrize("size", [1, 7, 64, 1000])
    def test_however_they_are_cut(self, client, dial, expected, size):
        wire = dial(client)
        sent = b"".join(wire.written(PREDICT, numbered(i), *([SLOWLY] if i == 2 else [])) for i in range(4))
        for start in range(0, len(sent), size):
            wire.send(sent[start : start + size])
        for number in range(4):
            assert np.array(wire.reply().json()["output"][0]) == expected(number)

    def test_behind_one_that_is_computed_the_others_wait_for_their_turn(self, serve, dial, gate, busy, expected):
        with serve() as client:
            wire = busy(client)
            wire.send(wire.written(PREDICT, numbered(1)), wire.written(PREDICT, numbered(2), SLOWLY))
            other = dial(client)
            other.send(other.written(PREDICT, numbered(3)))
            until(lambda: waiting(client) == 1)  # of the first connection only its first is begun
            gate.open.set()
            assert [np.array(wire.reply().json()["output"][0]) == expected(number) for number in range(3)] == [True] * 3
            assert np.array(other.reply().json()["output"][0]) == expected(3)


class TestPieces:
    @pytest.mark.parametrize("cut", [1, 40, -1])
    def test_a_body_that_pauses_for_longer_than_others_take_is_waited_for(self, client, dial, began, expected, cut):
        wire = dial(client)
        head, body = wire.written(PREDICT, numbered(4)).split(b"\r\n\r\n")
        wire.send(head, b"\r\n\r\n", body[:cut])
        time.sleep(0.15)
        wire.send(body[cut:])
        assert np.array(wire.reply().json()["output"][0]) == expected(4)
        assert began == []
        assert np.array(wire.post(PREDICT, numbered(5)).json()["output"][0]) == expected(5)
        assert began == [PREDICT]

    def test_a_head_that_pauses_makes_no_difference(self, client, dial, began, expected):
        wire = dial(client)
        sent = wire.written(PREDICT, numbered(4))
        wire.send(sent[:30])
        time.sleep(0.15)
        wire.send(sent[30:])
        assert np.array(wire.reply().json()["output"][0]) == expected(4)
        assert began == [PREDICT]

    def test_a_body_that_never_ends_is_answered_504_at_its_deadline(self, serve, dial):
        with serve(request_timeout_s=0.3) as client:
            wires = [dial(client) for _ in range(3)]
            started = time.monotonic()
            for wire, headers in zip(wires, ((), (), (SLOWLY,)), strict=True):
                wire.send(wire.written(PREDICT, GOOD, *headers)[: -1 if wire is wires[0] else -len(GOOD)])
            replies = [wire.reply() for wire in wires]
            assert 0.3 <= time.monotonic() - started < 3
            assert (replies[0].status, replies[0].json()["title"]) == (504, "DeadlineExceeded")
            assert replies[0].alike == replies[1].alike == replies[2].alike
            assert count(client, 504) == 3

    @pytest.mark.parametrize("first", [(), (SLOWLY,)], ids=["quick", "slow"])
    @pytest.mark.parametrize("cut", [-1, -len(GOOD)])
    def test_so_is_one_that_was_sent_ahead(self, serve, dial, first, cut):
        with serve(request_timeout_s=0.3) as client:
            wire = dial(client)
            wire.send(wire.written(PREDICT, GOOD, *first), wire.written(PREDICT, GOOD)[:cut])
            assert (wire.reply().status, wire.reply().status) == (200, 504)

    def test_the_rest_of_a_body_that_was_sent_ahead_may_come_later(self, client, dial, expected):
        wire = dial(client)
        for pause in (0.0, 0.02, 0.15):
            ahead = wire.written(PREDICT, numbered(2))
            wire.send(wire.written(PREDICT, numbered(1)), ahead[:-9])
            assert np.array(wire.reply().json()["output"][0]) == expected(1)
            time.sleep(pause)
            wire.send(ahead[-9:])
            assert np.array(wire.reply().json()["output"][0]) == expected(2)

    def test_bytes_that_are_no_request_are_refused_and_others_go_on(self, client, dial, expected):
        wire, other = dial(client), dial(client)
        wire.send(wire.written(PREDICT, numbered(1)))
        assert wire.reply().status == 200
        wire.send(b"nonsense\r\n\r\n")
        assert wire.reply().status == 400
        assert wire.is_closed()
        assert np.array(other.post(PREDICT, numbered(2)).json()["output"][0]) == expected(2)


@pytest.fixture
def parsed(monkeypatch):
    """The bytes that were given to the parser, read by read."""
    reads, receive = [], HttpToolsProtocol.data_received

    def noting(self, data):
        reads.append(data)
        receive(self, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", noting)
    return reads


class TestKnownHeads:
    """Requests whose head is that of an earlier one on their connection."""

    def test_are_not_parsed_again_whatever_their_length(self, client, dial, parsed, expected):
        wire = dial(client)
        for number in range(8):
            reply = wire.post(PREDICT, numbered(number, steps=number**2 + 1))
            assert np.array(reply.json()["output"][0]) == expected(number, number**2 + 1)
        assert len(parsed) == 1

    @pytest.mark.parametrize("header", ["X-Request-ID: mine", "x-other: \xfc", "Content-Language:de"])
    def test_are_answered_as_the_first_was(self, client, dial, parsed, header):
        wire = dial(client)
        first, second = (wire.post(PREDICT, GOOD, header) for _ in range(2))
        assert first.alike == second.alike
        assert first["x-request-id"] == second["x-request-id"] or "Request" not in header
        assert len(parsed) == 1

    @pytest.mark.parametrize(
        "body",
        [b'{"inputs":[[1,2,3,4,01]]}', b'{"inputs":[[1,2,3,4]]}', b'{"inputs":[[1,2,3,4,5]],"output":true}', b"", b"1"],
    )
    def test_with_a_body_that_the_layers_must_see_are_answered_by_them(self, client, dial, parsed, body):
        wire, other = dial(client), dial(client)
        wire.post(PREDICT, GOOD)
        replies = [wire.post(PREDICT, each) for each in (body, GOOD, body)]
        assert replies[0].alike == replies[2].alike == other.post(PREDICT, body, SLOWLY).alike
        assert replies[1].alike == other.post(PREDICT, GOOD).alike
        assert [read for read in parsed if not read.endswith(GOOD)] != []

    def test_with_a_body_that_is_too_large_are_refused_as_ever(self, serve, dial):
        with serve(max_body_bytes=200) as client:
            wire = dial(client)
            assert wire.post(PREDICT, GOOD).status == 200
            assert wire.post(PREDICT, numbered(1, steps=20)).status == 413

    def test_are_known_again_after_requests_with_other_heads(self, client, dial, parsed, expected):
        wire = dial(client)
        for _ in range(3):
            assert np.array(wire.post(PREDICT, numbered(1)).json()["output"][0]) == expected(1)
            assert wire.post("/v1/models/founding", b"", method="GET").status == 200
            assert wire.post(PREDICT, numbered(2), SLOWLY).status == 200
        assert len(parsed) == 1 + 2 * 3
        assert wire.post("/v1/models/nobody/predict", GOOD).status == 404
        assert wire.post(FORECAST, b'{"inputs":[[1,2]]}').status == 200
        assert np.array(wire.post(PREDICT, numbered(3)).json()["output"][0]) == expected(3)

    @pytest.mark.parametrize("cut", [1, 30, -20, -1])
    def test_may_come_in_pieces(self, client, dial, expected, cut):
        wire = dial(client)
        for number in range(3):
            wire.post(PREDICT, numbered(9))
            sent = wire.written(PREDICT, numbered(number))
            wire.send(sent[:cut])
            time.sleep(0.02)
            wire.send(sent[cut:])
            assert np.array(wire.reply().json()["output"][0]) == expected(number)

    def test_may_be_followed_by_others_and_by_the_beginning_of_one(self, client, dial, expected):
        wire = dial(client)
        wire.post(PREDICT, GOOD)
        sent = [wire.written(PREDICT, numbered(number)) for number in range(4)]
        wire.send(*sent[:3], sent[3][:20])
        assert [np.array(wire.reply().json()["output"][0]) == expected(number) for number in range(3)] == [True] * 3
        time.sleep(0.02)
        wire.send(sent[3][20:])
        assert np.array(wire.reply().json()["output"][0]) == expected(3)
        assert np.array(wire.post(PREDICT, numbered(4)).json()["output"][0]) == expected(4)

    def test_wait_for_the_one_that_is_computed(self, serve, dial, gate, busy, expected):
        with serve() as client:
            wire = dial(client)
            wire.post(PREDICT, GOOD)
            held = busy(client)
            for number in (1, 2, 3):
                wire.send(wire.written(PREDICT, numbered(number)))
                time.sleep(0.02)
            assert waiting(client) == 1
            gate.open.set()
            assert held.reply().status == 200
            for number in (1, 2, 3):
                assert np.array(wire.reply().json()["output"][0]) == expected(number)

    def test_of_a_client_that_leaves_are_not_computed(self, serve, dial, gate, busy):
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

    @pytest.mark.parametrize("length", ["+26", "-26", " 26 6", "0x1a", "2６", "000026", "26, 26", "", "25", "27"])  # noqa: RUF001
    def test_are_not_taken_for_those_with_another_kind_of_length(self, client, dial, length):
        fresh, wire = dial(client), dial(client)
        wire.post(PREDICT, GOOD)
        sent = wire.written(PREDICT, GOOD).replace(b"Length: 24", f"Length: {length}".encode())
        assert sent != wire.written(PREDICT, GOOD)
        replies = []
        for each in (fresh, wire):
            each.send(sent)
            each.socket.shutdown(socket.SHUT_WR)
            replies.append(each._read.read().partition(b"\r\n")[0])
        assert replies[0] == replies[1]

    def test_are_idle_no_longer_than_others(self, client, dial, monkeypatch):
        monkeypatch.setattr(client.server.config, "timeout_keep_alive", 0.05)
        wire = dial(client)
        for _ in range(3):
            assert wire.post(PREDICT, GOOD).status == 200
        assert wire.is_closed()


class TestEnds:
    def test_a_connection_is_kept_alive_for_the_next_request(self, client, dial, expected):
        wire = dial(client)
        for number in range(5):
            reply = wire.post(PREDICT, numbered(number))
            assert "connection" not in dict(reply.headers)
            assert np.array(reply.json()["output"][0]) == expected(number)

    @pytest.mark.parametrize(
        ("version", "headers"),
        [("1.1", ("Connection: close",)), ("1.0", ()), ("1.0", ("Connection: keep-alive",))],
    )
    def test_it_is_closed_where_it_would_be(self, client, dial, began, version, headers):
        replies = []
        for more in ((), (SLOWLY,)):
            wire = dial(client)
            replies.append(wire.post(PREDICT, GOOD, *headers, *more, version=version))
            assert wire.is_closed()
        assert began == [PREDICT]
        assert replies[0].alike == replies[1].alike
        assert replies[0]["connection"] == "close"

    def test_an_idle_one_is_closed_after_a_while(self, client, dial, monkeypatch):
        monkeypatch.setattr(client.server.config, "timeout_keep_alive", 0.05)
        for headers in ((), (SLOWLY,)):
            wire = dial(client)
            assert wire.post(PREDICT, GOOD, *headers).status == 200
            assert wire.is_closed()

    def test_of_a_client_that_leaves_in_the_queue_nothing_is_computed(self, serve, dial, gate, busy):
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

    def test_a_client_that_leaves_during_its_upload_is_counted(self, client, dial):
        before = count(client, 499)
        wire = dial(client)
        wire.send(wire.written(PREDICT, GOOD)[:-3])
        time.sleep(0.03)  # it is there, and the application was not asked yet
        wire.close()
        until(lambda: count(client, 499) == before + 1)

    def test_of_a_client_that_leaves_while_it_is_computed_nobody_notices(self, serve, dial, gate, busy, expected):
        with serve() as client:
            busy(client).close()
            until(lambda: count(client, 499) == 1)
            other = dial(client)
            other.send(other.written(PREDICT, numbered(8)))
            until(lambda: waiting(client) == 1)
            gate.open.set()
            assert np.array(other.reply().json()["output"][0]) == expected(8)
            assert count(client, 500) == 0

    def test_what_a_client_that_leaves_has_sent_ahead_harms_nobody(self, serve, dial, gate, busy, expected):
        with serve() as client:
            wire = busy(client)
            wire.send(wire.written(PREDICT, numbered(1)), wire.written(PREDICT, numbered(2), SLOWLY))
            wire.close()
            gate.open.set()
            assert np.array(dial(client).post(PREDICT, numbered(3)).json()["output"][0]) == expected(3)
            assert count(client, 500) == 0

    def test_a_step_of_a_client_that_leaves_in_the_queue_is_not_taken(self, serve, dial, gate, busy):
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
            reply = dial(client).post(f"/v1/sessions/{name}/steps", numbered(1))
            assert reply.json()["steps"] == 1

    def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(self, client, dial, expected):
        for _ in range(5):
            with contextlib.closing(socket.create_connection((client.base_url.host, client.base_url.port))) as leaving:
                leaving.sendall(dial(client).written(PREDICT, GOOD)[:-3])
        assert np.array(dial(client).post(PREDICT, numbered(2)).json()["output"][0]) == expected(2)


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
        step.send(step.written("/v1/sessions/a/steps", numbered(1)))
        assert gate.reached.wait(10)
        end.send(end.written("/v1/sessions/a", b"", method="DELETE"))
        time.sleep(0.05)
        late.send(late.written("/v1/sessions/a/steps", numbered(2)))
        gate.open.set()
        assert (step.reply().status, late.reply().status) == (200, 404)
        end._read.readline()  # 204 has no body
        assert opened.get("/v1/sessions/a").status_code == 404

    def test_a_state_is_put_between_two_steps(self, opened, dial, gate, networks):
        gate.shut()
        step, put, late = (dial(opened) for _ in range(3))
        state = {"hidden_state": [[[0.5] * 6]] * 2, "cell_state": [[[-0.25] * 6]] * 2}
        step.send(step.written("/v1/sessions/a/steps", numbered(1)))
        assert gate.reached.wait(10)
        put.send(put.written("/v1/sessions/a/state", json.dumps(state).encode(), method="PUT"))
        time.sleep(0.05)
        late.send(late.written("/v1/sessions/a/steps", numbered(2)))
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
            wire.send(wire.written("/v1/sessions/a/steps", numbered(1)))
            assert gate.reached.wait(10)
            time.sleep(0.55)
            gate.open.set()
            reply = wire.reply()
            assert (reply.status, reply.json()["title"]) == (404, "SessionNotFound")


class TestErrors:
    def test_one_more_than_may_wait_is_turned_away_alike(self, serve, dial, gate, busy):
        with serve(max_queue_size=1) as client:
            first, second, quick, slow = busy(client), dial(client), dial(client), dial(client)
            second.send(second.written(PREDICT, numbered(1)))
            until(lambda: waiting(client) == 1)
            refused = quick.post(PREDICT, numbered(2))
            assert refused.alike == slow.post(PREDICT, numbered(2), SLOWLY).alike
            assert (refused.status, refused.json()["title"], refused["retry-after"]) == (429, "Overloaded", "1")
            gate.open.set()
            assert first.reply().status == second.reply().status == 200
            assert quick.post(PREDICT, numbered(2)).status == 200
            assert gate.batches[:2] == [[0.0], [0.1]]

    def test_a_session_whose_step_was_turned_away_takes_the_next(self, serve, dial, gate, busy):
        with serve(max_queue_size=1) as client:
            client.post("/v1/sessions", json={"model": "founding", "session_id": "a"})
            first, second, stepping = busy(client), dial(client), dial(client)
            second.send(second.written(PREDICT, numbered(1)))
            until(lambda: waiting(client) == 1)
            assert stepping.post("/v1/sessions/a/steps", numbered(2)).status == 429
            gate.open.set()
            assert first.reply().status == second.reply().status == 200
            assert stepping.post("/v1/sessions/a/steps", numbered(2)).json()["steps"] == 1

    def test_what_waits_past_its_deadline_is_answered_504_alike(self, serve, dial, gate, busy):
        with serve(request_timeout_s=0.6) as client:
            started = time.monotonic()
            first, quick, slow = busy(client), dial(client), dial(client)
            quick.send(quick.written(PREDICT, numbered(1)))
            slow.send(slow.written(PREDICT, numbered(2), SLOWLY))
            replies = [wire.reply() for wire in (first, quick, slow)]
            assert 0.6 <= time.monotonic() - started < 4
            assert (replies[0].status, replies[0].json()["title"]) == (504, "DeadlineExceeded")
            assert replies[0].alike == replies[1].alike == replies[2].alike
            gate.open.set()
            assert quick.post(PREDICT, numbered(3)).status == 200
            assert gate.batches == [[0.0], [0.3]]
            assert (count(client, 504), count(client, 200)) == (3, 1)

    def test_behind_a_request_that_is_too_late_the_next_is_answered(self, serve, gate, busy, expected):
        with serve(request_timeout_s=0.6) as client:
            wire = busy(client)
            wire.send(wire.written(PREDICT, numbered(5)))
            assert wire.reply().status == 504
            gate.open.set()
            assert np.array(wire.reply().json()["output"][0]) == expected(5)

    def test_an_unforeseen_error_is_told_alike_and_logged_with_the_id(self, serve, dial, monkeypatch, caplog, began):
        from gatescope.pipeline.pipeline import Pipeline  # noqa: PLC0415

        def fail(self, query):
            raise RuntimeError("the secret inside")

        with serve() as client:
            wire = dial(client)
            with monkeypatch.context() as patch:
                patch.setattr(Pipeline, "answer", fail)
                quick = wire.post(PREDICT, GOOD, "X-Request-ID: failing-1")
                slow = wire.post(PREDICT, GOOD, "X-Request-ID: failing-2", SLOWLY)
            assert wire.post(PREDICT, GOOD).status == 200
            assert (count(client, 500), count(client, 200)) == (2, 1)
        assert began == [PREDICT] * 2
        assert (quick.status, quick.json()["title"], quick["x-request-id"]) == (500, "InternalError", "failing-1")
        assert quick.alike == slow.alike
        assert b"secret" not in quick.content
        logged = [record.msg for record in caplog.records if record.levelno == logging.ERROR]
        assert [line["event"] for line in logged] == ["request failed"] * 2
        assert [line["request_id"] for line in logged] == ["failing-1", "failing-2"]

    def test_a_poisoned_request_fails_alone(self, serve, dial, gate, busy, monkeypatch, expected):
        from gatescope.pipeline.pipeline import Pipeline  # noqa: PLC0415

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

    def test_what_cannot_be_begun_is_answered_by_the_layers(self, client, dial, monkeypatch, caplog, expected):
        from gatescope.server.api.quick import Quick  # noqa: PLC0415

        def fail(self, *_):
            raise RuntimeError("a mistake")

        monkeypatch.setattr(Quick, "begin", fail)
        assert np.array(dial(client).post(PREDICT, numbered(3)).json()["output"][0]) == expected(3)
        assert any("could not be begun" in str(record.msg) for record in caplog.records)


class TestTold:
    def test_each_request_is_counted_once_and_logged_once(self, serve, dial, monkeypatch, began):
        from gatescope.server import logs  # noqa: PLC0415

        lines = []
        monkeypatch.setattr(logs, "access", lambda *line: lines.append(line))
        steps = "/v1/sessions/a/steps"
        with serve() as client:
            client.post("/v1/sessions", json={"model": "founding", "session_id": "a"})
            wire, routes = dial(client), ("{name}/predict", "{name}/versions/{version}/predict")
            lines.clear()
            sent = [PREDICT, PREDICT, "/v1/models/founding/versions/1/predict", steps, f"{PREDICT}?a=b"]
            for index, path in enumerate(sent):
                assert wire.post(path, GOOD, f"X-Request-ID: a-{index}").status == 200
            assert wire.post(PREDICT, b'{"inputs":[[1]]}', "X-Request-ID: a-5").status == 422
            told, began_here = [*lines], [*began]
            assert [count(client, 200, f"/v1/models/{route}") for route in routes] == [3, 1]
            assert count(client, 200, "/v1/sessions/{session_id}/steps") == 1
            assert count(client, 422) == 1
            text = client.get("/metrics").text
        assert 'gatescope_request_seconds_count{method="POST",route="/v1/models/{name}/predict"} 4.0' in text
        assert len(began_here) == 5
        assert [(method, path, status) for method, path, status, *_ in told] == [
            *(("POST", path.partition("?")[0], 200) for path in sent),
            ("POST", PREDICT, 422),
        ]
        assert [line[4] for line in told] == [f"a-{index}" for index in range(6)]
        assert all(0 < line[3] < 10 for line in told)


class TestMany:
    def test_two_hundred_connections_at_once_get_their_own_answers(self, client, call, expected):
        models = {"forecaster": [[1.0, 2.0]], "both-ways": [[0.1, 0.2, 0.3]]}
        known = {name: call(f"{name}/predict", {"inputs": rows}) for name, rows in models.items()}
        names = [client.post("/v1/sessions", json={"model": "founding"}).json()["session_id"] for _ in range(8)]
        started = asyncio.run(self._ask(client, names, 200))
        steps = {name: [] for name in names}
        for index, (path, body, reply) in enumerate(started):
            told = json.loads(reply)
            if path.startswith("/v1/sessions"):
                steps[told["session_id"]].append(told)
            elif "founding" in path:
                assert np.array(told["output"][0]) == expected(index, index % 7 + 1)
            else:
                model = path.split("/")[3]
                field = "prediction" if model == "forecaster" else "output"
                ours, theirs = told[field], getattr(known[model], field)
                ours, theirs = (ours["values"], theirs["values"]) if model == "forecaster" else (ours, theirs)
                assert np.array(ours) == pytest.approx(np.array(theirs), abs=1e-5), body
        whole = np.array(call("founding/predict", {"inputs": [[0.1] * 5] * 20}).output[0])
        for taken in steps.values():
            assert [each["steps"] for each in sorted(taken, key=lambda each: each["steps"])] == [
                *range(1, len(taken) + 1)
            ]
            for each in taken:
                assert np.array(each["output"][0][0]) == pytest.approx(whole[each["steps"] - 1], abs=1e-5)
        for name in names:
            client.delete(f"/v1/sessions/{name}")

    @staticmethod
    async def _ask(client, names, connections):
        """The path, the body and the reply's body of two requests on each connection, all under way together."""
        from itertools import count as counted  # noqa: PLC0415

        numbers, together = counted(), asyncio.Barrier(connections)

        def request(index):
            kind = index % 4
            if kind == 0:
                return f"/v1/sessions/{names[index // 4 % len(names)]}/steps", json.dumps(
                    {"inputs": [[0.1] * 5]}
                ).encode()
            if kind == 1:
                return FORECAST, b'{"inputs":[[1.0,2.0]]}'
            if kind == 2:
                return "/v1/models/both-ways/predict", b'{"inputs":[[0.1,0.2,0.3]]}'
            return PREDICT, numbered(index, index % 7 + 1)

        async def one():
            reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
            await together.wait()
            results = []
            for _ in range(2):
                index = next(numbers)
                path, body = request(index)
                head = (
                    f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
                )
                writer.write(head.encode() + (b"" if index % 3 else f"\r\n{SLOWLY}".encode()) + b"\r\n\r\n" + body)
                answered = await reader.readuntil(b"\r\n\r\n")
                assert answered.startswith(b"HTTP/1.1 200"), answered
                size = int(answered.split(b"content-length: ")[1].split(b"\r\n")[0])
                results.append((index, path, body, await reader.readexactly(size)))
            writer.close()
            await writer.wait_closed()
            return results

        done = await asyncio.gather(*(one() for _ in range(connections)))
        return [rest for _, *rest in sorted(result for each in done for result in each)]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A folder with a model whose replies are large."""
    root = tmp_path_factory.mktemp("wide")
    network = nn.Module()
    torch.manual_seed(1)
    network.lstm = nn.LSTM(1, 64)
    (root / "wide" / "1").mkdir(parents=True)
    (root / "wide" / "model.toml").write_text(
        'description = "a"\n[input]\nkind = "features"\nfeatures = [{name = "a"}]'
    )
    save_file(network.state_dict(), root / "wide" / "1" / "model.safetensors")
    return root


class TestSlowReaders:
    def test_who_does_not_read_the_replies_harms_nobody_and_gets_them_all(self, serve_models, wide, dial):
        path, times = "/v1/models/wide/predict", 8
        body = json.dumps({"inputs": [[0.5]] * 1500}, separators=(",", ":")).encode()
        with serve_models(wide) as client:
            slow, other = dial(client), dial(client)
            once = other.post(path, body)
            assert len(once.content) > 1_000_000
            sending = threading.Thread(target=slow.send, args=[slow.written(path, body) * times])
            sending.start()
            for _ in range(20):
                assert other.post(path, b'{"inputs":[[1]]}').status == 200
            assert [slow.reply().alike == once.alike for _ in range(times)] == [True] * times
            sending.join()
            assert slow.post(path, b'{"inputs":[[1]]}').status == 200


class TestShutdown:
    @pytest.fixture
    def running(self, models_dir):
        """`running(**settings)`: the service as the command line runs it, and a function that tells it to stop."""
        import httpx  # noqa: PLC0415

        from gatescope.server.api import server  # noqa: PLC0415
        from gatescope.server.main import create_app  # noqa: PLC0415
        from gatescope.server.settings import Settings  # noqa: PLC0415

        @contextlib.contextmanager
        def run(**given):
            settings = Settings(models_dir=models_dir, watch=False, **given)
            app, greeted, sockets = create_app(settings), threading.Event(), server.listen("127.0.0.1", 0)
            service = server.Server(app, settings.shutdown_timeout_s, settings.max_body_bytes, lambda _: greeted.set())
            thread = threading.Thread(target=service.run, args=[sockets])
            thread.start()
            assert greeted.wait(20)
            with httpx.Client(base_url=server.url_of(sockets[0])) as client:
                client.app, client.server, client.thread = app, service, thread
                yield client
            service.should_exit = True
            thread.join(10)
            assert not thread.is_alive()

        return run

    def test_what_is_under_way_is_answered_and_the_connection_closed(self, running, dial, gate, busy, expected):
        with running(shutdown_timeout_s=10) as client:
            computed, queued, idle, partial = busy(client), dial(client), dial(client), dial(client)
            queued.send(queued.written(PREDICT, numbered(1)))
            partial.send(partial.written(PREDICT, numbered(2))[:-5])
            until(lambda: waiting(client) == 1)
            client.server.should_exit = True
            assert idle.is_closed()
            partial.send(partial.written(PREDICT, numbered(2))[-5:])
            gate.open.set()
            for number, wire in enumerate((computed, queued, partial)):
                reply = wire.reply()
                assert np.array(reply.json()["output"][0]) == expected(number)
                assert reply["connection"] == "close"
                assert wire.is_closed()
            client.thread.join(10)
            assert not client.thread.is_alive()

    def test_what_takes_longer_than_it_may_is_turned_away(self, running, dial, gate, busy):
        with running(shutdown_timeout_s=0) as client:
            first = busy(client)
            queued = dial(client)
            queued.send(queued.written(PREDICT, numbered(1)))
            until(lambda: waiting(client) == 1)
            client.server.should_exit = True
            reply = queued.reply()
            assert (reply.status, reply.json()["title"]) == (503, "NotReady")
            gate.open.set()
            reply = first.reply()
            assert (reply.status, reply.json()["title"]) == (503, "NotReady")
            client.thread.join(10)
            assert not client.thread.is_alive()
            assert gate.batches == [[0.0]]
