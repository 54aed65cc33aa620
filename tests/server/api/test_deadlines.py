"""What must be done until when: requests, and bodies that are slow to arrive."""

import time

import numpy as np
import pytest

from tests.server.api.helpers import GOOD, PREDICT, count, numbered, until, waiting

HEADER = "X-Request-Timeout-Ms"
STEPS = "/v1/sessions/a/steps"
TENSOR = b'{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}'


class TestRequests:
    def test_what_waits_past_its_deadline_is_answered_504(self, serve, dial, gate, busy):
        with serve(request_timeout_s=0.6) as client:
            started = time.monotonic()
            first, second, third = busy(client), dial(client), dial(client)
            second.send(second.written(PREDICT, numbered(1)))
            third.send(third.written(PREDICT, numbered(2), f"{HEADER}: 60000"))  # the operator bounds it
            replies = [wire.reply() for wire in (first, second, third)]
            assert 0.6 <= time.monotonic() - started < 6
            assert (replies[0].status, replies[0].json()["title"]) == (504, "DeadlineExceeded")
            assert "0.6 seconds" in replies[0].json()["detail"]
            assert replies[0].alike == replies[1].alike == replies[2].alike
            gate.open.set()
            assert second.post(PREDICT, numbered(3)).status == 200
            assert gate.batches == [[0.0], [0.3]]
            assert (count(client, 504), count(client, 200)) == (3, 1)

    def test_behind_one_that_is_too_late_the_next_is_answered(self, serve, gate, busy, expected):
        with serve(request_timeout_s=0.6) as client:
            wire = busy(client)
            wire.send(wire.written(PREDICT, numbered(5)))
            assert wire.reply().status == 504
            gate.open.set()
            assert np.array(wire.reply().json()["output"][0]) == expected(5)

    @pytest.mark.parametrize(
        "path", [PREDICT, "/v1/models/founding/trace", STEPS, "/v1/traces", "/v2/models/founding/infer"]
    )
    def test_every_route_that_computes_has_one(self, serve, dial, gate, busy, path):
        bodies = {
            "/v1/traces": b'{"model":"founding","inputs":[[1,2,3,4,5]]}',
            "/v2/models/founding/infer": b'{"inputs":[%b]}' % TENSOR,
        }
        with serve() as client:
            client.post("/v1/sessions", json={"model": "founding", "session_id": "a"})
            held = busy(client)
            reply = dial(client).post(path, bodies.get(path, GOOD), f"{HEADER}: 150")
            assert reply.status == 504
            assert "0.15 seconds" in reply.content.decode()
            gate.open.set()
            assert held.reply().status == 200
            assert client.get("/v1/sessions/a").json()["steps"] == 0

    def test_a_known_head_counts_anew(self, serve, dial, gate, busy):
        with serve() as client:
            wire = dial(client)
            for _ in range(3):
                assert wire.post(PREDICT, GOOD, f"{HEADER}: 400").status == 200
            held = busy(client)
            for _ in range(2):
                assert wire.post(PREDICT, GOOD, f"{HEADER}: 400").status == 504
            gate.open.set()
            assert held.reply().status == 200
            assert wire.post(PREDICT, GOOD, f"{HEADER}: 4000").status == 200


class TestHeader:
    @pytest.mark.parametrize("given", ["0", "-5", "soon", "1.5", "", "9" * 16, "1e3", "٣"])
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", PREDICT),
            ("GET", "/v1/models"),
            ("GET", "/health/live"),
            ("GET", "/metrics"),
            ("DELETE", "/v1/traces/none"),
            ("PUT", "/v1/models/new"),
            ("POST", "/v1/models/founding/load"),
            ("GET", "/nowhere"),
        ],
    )
    def test_what_is_no_time_is_refused_on_every_route(self, client, dial, method, path, given):
        wire = dial(client)
        wire.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{HEADER}: {given}\r\n\r\n".encode())
        reply = wire.reply()
        assert (reply.status, reply.json()["errors"][0]["loc"]) == (422, ["header", HEADER])
        assert client.get("/v1/models/new").status_code == 404

    def test_in_the_protocol_it_is_refused_in_its_form(self, client):
        reply = client.post("/v2/models/founding/infer", headers={HEADER: "soon"})
        assert (reply.status_code, reply.json().keys()) == (400, {"error"})

    @pytest.mark.parametrize("path", ["/health/live", "/v1/models", "/metrics", "/v1/sessions"])
    def test_one_that_fits_changes_nothing(self, client, path):
        assert client.get(path, headers={HEADER: "5000"}).status_code == 200


class TestBodies:
    @pytest.mark.parametrize("cut", [-1, -len(GOOD)])
    def test_one_that_never_ends_is_504_at_the_deadline(self, serve, dial, cut):
        with serve(request_timeout_s=0.3) as client:
            wires = [dial(client) for _ in range(3)]
            started = time.monotonic()
            for wire in wires:
                wire.send(wire.written(PREDICT, GOOD)[:cut])
            replies = [wire.reply() for wire in wires]
            assert 0.3 <= time.monotonic() - started < 5
            assert [(reply.status, reply.json()["title"]) for reply in replies] == [(504, "DeadlineExceeded")] * 3
            assert count(client, 504) == 3

    @pytest.mark.parametrize("cut", [-1, -len(GOOD)])
    def test_so_is_one_that_was_sent_ahead(self, serve, dial, cut):
        with serve(request_timeout_s=0.3) as client:
            wire = dial(client)
            wire.send(wire.written(PREDICT, GOOD), wire.written(PREDICT, GOOD)[:cut])
            assert (wire.reply().status, wire.reply().status) == (200, 504)

    def test_one_that_takes_too_long_is_408(self, serve, dial):
        with serve(body_timeout_s=0.5) as client:
            wire = dial(client)
            wire.send(wire.written(PREDICT, GOOD)[:-1])
            reply = wire.reply()
            assert (reply.status, reply.json()["title"]) == (408, "TooSlow")
            assert count(client, 408) == 1

    def test_a_slow_upload_has_more_time_and_then_none(self, serve, dial):
        with serve(body_timeout_s=0.5, upload_timeout_s=1.5) as client:
            wire, started = dial(client), time.monotonic()
            wire.send(b"PUT /v1/models/new HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n", b"x" * 100)
            reply = wire.reply()
            assert (reply.status, reply.json()["title"]) == (408, "TooSlow")
            assert time.monotonic() - started >= 1.4

    def test_a_slow_one_that_was_sent_ahead_harms_not_the_first(self, serve, gate, busy, expected):
        with serve(body_timeout_s=0.3, request_timeout_s=5) as client:
            wire = busy(client)
            wire.send(wire.written(PREDICT, GOOD)[:-1])
            time.sleep(1.2)  # the body's time is over, and was looked at
            gate.open.set()
            reply = wire.reply()
            assert reply.status == 200
            assert np.array(reply.json()["output"][0]) == expected(0)
            wire.socket.settimeout(5)
            assert wire.reply().status == 408

    def test_the_time_that_it_waits_for_the_first_is_its_own(self, serve, dial, gate, busy, expected):
        with serve() as client:
            wire = busy(client)
            wire.send(wire.written(PREDICT, numbered(1), f"{HEADER}: 500"))
            other = dial(client)
            other.send(other.written(PREDICT, numbered(2)))
            until(lambda: waiting(client) == 1)
            gate.open.set()
            assert [wire.reply().status for _ in range(2)] == [200, 200]
            assert np.array(other.reply().json()["output"][0]) == expected(2)
