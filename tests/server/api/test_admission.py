"""Places: how many requests are answered at once, who waits for one, and who is refused."""

import asyncio
import json
import threading
import time

import numpy as np
import pytest
from websockets.sync.client import connect

from gatescope.errors import Overloaded
from gatescope.server.api.admission import Admission
from tests.server.api.helpers import GOOD, PREDICT, count, numbered, queued, until, waiting

NONSENSE = b"this is no JSON"
LONG_MS, SHORT_MS = 20_000.0, 150.0


def ask(dial, client, number, *headers):
    wire = dial(client)
    wire.send(wire.written(PREDICT, numbered(number), *headers))
    return wire


@pytest.fixture
def full(dial, busy):
    """`full(client, places)`: requests that have all places; the first is being computed."""

    def fill(client, places):
        wires = [busy(client)]
        for number in range(1, places):
            wires.append(ask(dial, client, number))
            until(lambda number=number: waiting(client) == number)
        return wires

    return fill


class TestPlaces:
    def test_as_many_as_there_are_are_admitted(self, serve, dial, gate, full, expected):
        with serve(max_queue_size=3, admission_wait_ms=SHORT_MS) as client:
            wires = full(client, 3)
            assert queued(client) == 0
            began = time.monotonic()
            refused = ask(dial, client, 9).reply()
            assert SHORT_MS / 1000 <= time.monotonic() - began < 5
            assert (refused.status, refused.json()["title"], refused["retry-after"]) == (429, "Overloaded", "1")
            gate.open.set()
            for number, wire in enumerate(wires):
                assert np.array(wire.reply().json()["output"][0]) == expected(number)
            assert dial(client).post(PREDICT, GOOD).status == 200
            assert (count(client, 200), count(client, 429)) == (4, 1)

    def test_one_that_comes_free_in_time_is_given(self, serve, dial, gate, full, expected):
        with serve(max_queue_size=2, admission_wait_ms=LONG_MS) as client:
            wires = full(client, 2)
            wires.append(ask(dial, client, 2))
            until(lambda: queued(client) == 1)
            assert waiting(client) == 1
            gate.open.set()
            for number, wire in enumerate(wires):
                assert np.array(wire.reply().json()["output"][0]) == expected(number)
            assert count(client, 429) == 0

    def test_who_came_first_is_served_first(self, serve, dial, gate, full):
        with serve(max_queue_size=1, admission_wait_ms=LONG_MS) as client:
            wires = full(client, 1)
            for number in range(1, 6):
                wires.append(ask(dial, client, number))
                until(lambda number=number: queued(client) == number)
            gate.open.set()
            assert [wire.reply().status for wire in wires] == [200] * 6
            assert gate.batches == [[round(number / 10, 4)] for number in range(6)]

    def test_a_place_is_given_back_whatever_the_reply(self, serve, dial):
        with serve(max_queue_size=1, admission_wait_ms=0.0) as client:
            wire = dial(client)
            for body, status in ((NONSENSE, 400), (b'{"inputs":[[1]]}', 422), (GOOD, 200)):
                assert [wire.post(PREDICT, body).status for _ in range(3)] == [status] * 3

    def test_a_step_that_was_turned_away_is_not_taken(self, serve, dial, gate, full):
        with serve(max_queue_size=1, admission_wait_ms=SHORT_MS) as client:
            client.post("/v1/sessions", json={"model": "founding", "session_id": "a"})
            (first,), stepping = full(client, 1), dial(client)
            assert stepping.post("/v1/sessions/a/steps", numbered(2)).status == 429
            gate.open.set()
            assert first.reply().status == 200
            assert stepping.post("/v1/sessions/a/steps", numbered(2)).json()["steps"] == 1


class TestWaiting:
    @pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
    @pytest.mark.parametrize("path", [PREDICT, "/v1/models/founding/trace", "/v2/models/founding/infer", "/v1/traces"])
    def test_who_waits_has_not_been_read(self, serve, dial, gate, full, path, large):
        with serve(max_queue_size=1, admission_wait_ms=SHORT_MS) as client:
            (first,) = full(client, 1)
            content = NONSENSE * 30_000 if large else NONSENSE
            reply = dial(client).post(path, content)
            assert (reply.status, reply["retry-after"]) == (429, "1")
            gate.open.set()
            assert first.reply().status == 200
            assert dial(client).post(path, content).status == 400

    def test_one_that_leaves_gives_nothing_away(self, serve, dial, gate, full):
        with serve(max_queue_size=1, admission_wait_ms=LONG_MS) as client:
            (first,) = full(client, 1)
            leaving = ask(dial, client, 1)
            until(lambda: queued(client) == 1)
            staying = ask(dial, client, 2)
            until(lambda: queued(client) == 2)
            leaving.close()
            until(lambda: queued(client) == 1)
            assert waiting(client) == 0
            gate.open.set()
            assert (first.reply().status, staying.reply().status) == (200, 200)
            assert gate.batches == [[0.0], [0.2]]
            gate.shut()
            self.assert_places(client, dial, 1)
            gate.open.set()

    def test_one_past_its_deadline_gives_nothing_away(self, serve, dial, gate, full):
        with serve(max_queue_size=1, admission_wait_ms=LONG_MS) as client:
            (first,) = full(client, 1)
            late = ask(dial, client, 1, "X-Request-Timeout-Ms: 100")
            assert (late.reply().status, queued(client), waiting(client)) == (504, 0, 0)
            gate.open.set()
            assert first.reply().status == 200
            gate.shut()
            self.assert_places(client, dial, 1)
            gate.open.set()

    @staticmethod
    def assert_places(client, dial, places):
        """There are so many, no fewer and no more."""
        wires = [ask(dial, client, number) for number in range(places + 1)]
        until(lambda: queued(client) == 1)
        wires[0].close()
        for wire in wires:
            wire.close()

    def test_others_are_answered_meanwhile(self, serve, dial, gate, full):
        with serve(max_queue_size=1, admission_wait_ms=LONG_MS) as client:
            (first,), held = full(client, 1), ask(dial, client, 1)
            until(lambda: queued(client) == 1)
            for path in ("/health/live", "/health/ready", "/v2/health/ready", "/metrics", "/v1/models", "/"):
                assert client.get(path).status_code == 200
            assert client.post("/v1/sessions", json={"model": "founding"}).status_code == 201
            gate.open.set()
            assert (first.reply().status, held.reply().status) == (200, 200)

    def test_a_message_of_a_stream_needs_a_place_too(self, serve, gate, full):
        with serve(max_queue_size=1, admission_wait_ms=SHORT_MS) as client:
            opened = client.post("/v1/sessions", json={"model": "founding"}).json()["session_id"]
            (first,) = full(client, 1)
            with connect(str(client.base_url).replace("http", "ws") + f"/v1/sessions/{opened}/stream") as stream:
                stream.send(numbered(1).decode())
                assert json.loads(stream.recv())["title"] == "Overloaded"
                gate.open.set()
                assert first.reply().status == 200
                stream.send(numbered(1).decode())
                assert json.loads(stream.recv())["steps"] == 1

    def test_with_no_time_to_wait_it_is_refused_at_once(self, serve, dial, gate, full):
        with serve(max_queue_size=1, admission_wait_ms=0.0) as client:
            (first,) = full(client, 1)
            assert ask(dial, client, 1).reply().status == 429
            gate.open.set()
            assert first.reply().status == 200


class TestAdmission:
    """By itself."""

    def test_a_place_that_comes_as_its_waiter_leaves_goes_on(self):
        async def run():
            admission = Admission(1, 10.0)
            assert admission.take_place()
            leaving, staying = (asyncio.create_task(admission.wait()) for _ in range(2))
            await asyncio.sleep(0)
            assert (admission.take_place(), admission.waiting) == (False, 2)
            admission.release()  # to the one that leaves in the same moment
            leaving.cancel()
            await asyncio.wait([leaving, staying], timeout=5)
            assert (leaving.cancelled(), staying.result(), admission.waiting) == (True, None, 0)
            assert not admission.take_place()
            admission.release()
            assert [admission.take_place() for _ in range(2)] == [True, False]

        asyncio.run(run())

    def test_nobody_waits_for_longer_than_the_first(self):
        async def run():
            admission = Admission(1, 0.05)
            assert admission.take_place()
            results = await asyncio.gather(*(admission.wait() for _ in range(100)), return_exceptions=True)
            assert {type(result) for result in results} == {Overloaded}
            admission.release()
            assert admission.take_place()

        asyncio.run(run())

    def test_under_many_at_once_no_place_is_lost(self):
        async def run():
            admission, now, most = Admission(3, 10.0), [0], [0]

            async def one():
                if not admission.take_place():
                    await admission.wait()
                now[0] += 1
                most[0] = max(most[0], now[0])
                try:
                    await asyncio.sleep(0)
                finally:
                    now[0] -= 1
                    admission.release()

            tasks = [asyncio.create_task(one()) for _ in range(60)]
            await asyncio.sleep(0)
            for task in tasks[::4]:
                task.cancel()
            await asyncio.wait(tasks, timeout=10)
            assert (most[0], now[0], admission.waiting) == (3, 0, 0)
            assert [admission.take_place() for _ in range(4)] == [True, True, True, False]

        asyncio.run(run())


def test_threads_of_clients_get_200_or_429_and_nothing_else(serve, gate):
    with serve(max_queue_size=2, admission_wait_ms=SHORT_MS) as client:
        gate.shut()
        statuses = []
        threads = [
            threading.Thread(
                target=lambda: statuses.append(client.post(PREDICT, content=GOOD, headers=JSON).status_code)
            )
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        until(lambda: statuses.count(429) == 10)
        gate.open.set()
        for thread in threads:
            thread.join(10)
        assert sorted(statuses) == [200] * 2 + [429] * 10


JSON = {"Content-Type": "application/json"}
