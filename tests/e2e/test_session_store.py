"""Sessions in a real Redis: they outlive the processes that step them, and several processes share them."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

SHIPPED = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def whole(shipped):
    """The rows of an example of the demand model, and its predictions over all of them."""
    rows = np.array(shipped.get("/v1/models/demand").json()["examples"][0]["request"]["inputs"])[0, :40].tolist()
    reply = shipped.post("/v1/models/demand/predict", json={"inputs": rows}).json()
    return rows, np.array(reply["prediction"]["values"][0])


def take(client, name, rows, **fields):
    reply = client.post(f"/v1/sessions/{name}/steps", json={"inputs": rows} | fields)
    assert reply.status_code == 200, reply.text
    return np.array(reply.json()["prediction"]["values"][0]), reply.json()["steps"]


def test_a_stream_goes_on_where_a_killed_process_left_it(service, serve_models, redis_server, whole):
    rows, expected = whole
    with service(GATESCOPE_SESSION_STORE=redis_server.url) as (client, process):
        assert client.post("/v1/sessions", json={"model": "demand", "session_id": "s"}).status_code == 201
        values = [take(client, "s", rows[at : at + 10], step_number=at // 10)[0] for at in (0, 10)]
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serve_models(SHIPPED, session_store=redis_server.url) as client:
        again, steps = take(client, "s", rows[10:20], step_number=1)  # its answer may have been lost
        assert steps == 2
        assert again.tolist() == values[1].tolist()
        values += [take(client, "s", rows[at : at + 10], step_number=at // 10)[0] for at in (20, 30)]
        assert client.get("/v1/sessions/s").json()["time_steps"] == 40
    assert np.concatenate(values) == pytest.approx(expected, rel=1e-6)


def test_two_processes_share_one_redis(service, serve_models, redis_server, whole):
    with (
        service(GATESCOPE_SESSION_STORE=redis_server.url) as (one, _),
        serve_models(SHIPPED, session_store=redis_server.url) as other,
    ):
        they_take_turns_on_one_session(one, other, *whole)
        at_once_they_lose_no_step(one, other, whole[0])


def they_take_turns_on_one_session(one, other, rows, expected):
    one.post("/v1/sessions", json={"model": "demand", "session_id": "turns"})
    values = [take((one, other)[at % 2], "turns", [row])[0] for at, row in enumerate(rows)]
    assert np.concatenate(values) == pytest.approx(expected, rel=1e-6)
    assert [each["session_id"] for each in other.get("/v1/sessions").json()["sessions"]] == ["turns"]


def at_once_they_lose_no_step(one, other, rows):
    one.post("/v1/sessions", json={"model": "demand", "session_id": "race"})
    with ThreadPoolExecutor(4) as pool:
        steps = list(pool.map(lambda at: take((one, other)[at % 2], "race", rows[:1])[1], range(40)))
    assert sorted(steps) == list(range(1, 41))
    repeated = one.post("/v1/models/demand/predict", json={"inputs": rows[:1] * 40, "outputs": ["final_state"]})
    state = other.get("/v1/sessions/race/state").json()
    expected = np.array(repeated.json()["final_state"]["cell_state"])
    assert np.array(state["cell_state"]) == pytest.approx(expected, abs=1e-5)
