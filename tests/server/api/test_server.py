"""How the service ends: what is under way is answered, until the time is over or it is told so again."""

import signal
import time

import numpy as np
import pytest

from tests.server.api.helpers import PREDICT, count, numbered, queued, until, waiting


def terminate(client):
    client.server.handle_exit(signal.SIGTERM, None)


def assert_ended(client):
    client.thread.join(10)
    assert not client.thread.is_alive()


def test_what_is_under_way_is_answered_and_closed(running, dial, gate, busy, expected):
    with running(shutdown_timeout_s=20) as client:
        computed, queued_, idle, partial = busy(client), dial(client), dial(client), dial(client)
        queued_.send(queued_.written(PREDICT, numbered(1)))
        partial.send(partial.written(PREDICT, numbered(2))[:-5])
        until(lambda: waiting(client) == 1)
        client.get("/health/live")  # the piece is there
        terminate(client)
        assert idle.is_closed()
        partial.send(partial.written(PREDICT, numbered(2))[-5:])
        gate.open.set()
        for number, wire in enumerate((computed, queued_, partial)):
            reply = wire.reply()
            assert np.array(reply.json()["output"][0]) == expected(number)
            assert reply["connection"] == "close"
            assert wire.is_closed()
        assert_ended(client)


def test_one_that_waits_for_a_place_is_answered_too(running, dial, gate, busy, expected):
    with running(shutdown_timeout_s=20, max_queue_size=1, admission_wait_ms=10_000) as client:
        first, second = busy(client), dial(client)
        second.send(second.written(PREDICT, numbered(1)))
        until(lambda: queued(client) == 1)
        terminate(client)
        gate.open.set()
        assert [
            np.array(wire.reply().json()["output"][0]) == expected(n) for n, wire in enumerate((first, second))
        ] == [
            True,
            True,
        ]
        assert_ended(client)


@pytest.mark.parametrize(("timeout_s", "signals"), [(1, 1), (30, 2)])
def test_what_takes_too_long_is_answered_503(running, dial, gate, busy, timeout_s, signals):
    with running(shutdown_timeout_s=timeout_s) as client:
        first, second = busy(client), dial(client)
        second.send(second.written(PREDICT, numbered(1)))
        until(lambda: waiting(client) == 1)
        began = time.monotonic()
        for _ in range(signals):
            terminate(client)
        replies = [wire.reply() for wire in (first, second)]
        assert time.monotonic() - began < 10
        assert [(reply.status, reply.json()["title"]) for reply in replies] == [(503, "NotReady")] * 2
        gate.open.set()
        assert_ended(client)
        assert gate.batches == [[0.0]]


def test_with_no_time_at_all_it_is_503_at_once(running, gate, busy):
    with running(shutdown_timeout_s=0) as client:
        wire = busy(client)
        wire.socket.settimeout(5)
        terminate(client)
        try:
            reply = wire.reply()
        finally:
            gate.open.set()
        assert (reply.status, reply.json()["title"]) == (503, "NotReady")
        assert_ended(client)


def test_a_step_that_is_cut_off_is_503(running, dial, gate):
    with running(shutdown_timeout_s=1) as client:
        client.post("/v1/sessions", json={"model": "founding", "session_id": "a"})
        gate.shut()
        wire = dial(client)
        wire.send(wire.written("/v1/sessions/a/steps", numbered(1)))
        assert gate.reached.wait(10)
        terminate(client)
        assert wire.reply().status == 503
        gate.open.set()
        assert_ended(client)


def test_nothing_is_counted_twice(running, gate, busy):
    with running(shutdown_timeout_s=20) as client:
        wire = busy(client)
        before = count(client, 200)
        gate.open.set()
        assert wire.reply().status == 200
        until(lambda: count(client, 200) == before + 1)
        terminate(client)
        assert_ended(client)
