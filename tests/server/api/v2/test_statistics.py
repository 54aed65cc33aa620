"""What the models were asked, and how long it took."""

import time

import pytest


@pytest.fixture(scope="module")
def fresh(serve):
    with serve() as client:
        yield client


def stats(client, path="models/founding/stats"):
    (told,) = client.get(f"/v2/{path}").json()["model_stats"]
    return told


def test_requests_rows_and_batches_are_counted_and_timed(fresh, wire):
    before = stats(fresh)
    assert before["inference_count"] == before["execution_count"] == before["inference_stats"]["success"]["count"] == 0
    assert (before["name"], before["version"], before["batch_stats"]) == ("founding", "1", [])
    started = time.time()
    for rows in (1, 3):
        tensor = wire.tensor("inputs", [[[0.0] * 5] * 4] * rows)
        wire.opened(fresh.post("/v2/models/founding/infer", json={"inputs": [tensor]}))
    told = stats(fresh, "models/founding/versions/1/stats")
    assert (told["inference_count"], told["execution_count"]) == (4, 2)
    assert started * 1000 - 1 <= told["last_inference"] <= time.time() * 1000
    counted = told["inference_stats"]
    assert counted["success"]["count"] == counted["queue"]["count"] == counted["compute_infer"]["count"] == 2
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert 0 < sum(counted[part]["ns"] for part in parts) <= counted["success"]["ns"]
    assert counted["fail"]["count"] == counted["cache_hit"]["count"] == 0
    assert [batch["batch_size"] for batch in told["batch_stats"]] == [1, 3]
    assert all(batch["compute_infer"]["count"] == 1 for batch in told["batch_stats"])


def test_every_model_that_answers_is_listed(fresh):
    listed = {told["name"] for told in fresh.get("/v2/models/stats").json()["model_stats"]}
    index = fresh.post("/v2/repository/index", json={"ready": True}).json()
    assert listed == {told["name"] for told in index}
