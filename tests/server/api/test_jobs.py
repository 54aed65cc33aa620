"""Requests that are answered by jobs."""

import threading
import time

import pytest
import torch

from gatescope.analysis import saturation
from gatescope.server.serving import jobs as jobs_module

ASYNC = {"prefer": "respond-async"}
BODY = {"inputs": [[0.1] * 5] * 4}


@pytest.fixture(scope="module")
def client(serve_models, models_dir):
    with serve_models(models_dir, max_jobs=3, job_store_bytes=1_000_000) as client:
        yield client


def begun(client, path, body, **headers):
    reply = client.post(path, json=body, headers=ASYNC | headers)
    assert reply.status_code == 202, reply.text
    job_id = reply.json()["job_id"]
    assert reply.headers["location"] == f"/v1/jobs/{job_id}"
    assert reply.headers["preference-applied"] == "respond-async"
    return job_id


def ended(client, job_id):
    for _ in range(1000):
        job = client.get(f"/v1/jobs/{job_id}").json()
        if job["state"] not in {"queued", "running"}:
            return job
        time.sleep(0.01)
    raise TimeoutError(job)


@pytest.fixture
def held(monkeypatch):
    """Statistics that wait until they are let go."""
    gate, update = threading.Event(), saturation.ANALYSIS.statistic.update
    monkeypatch.setattr(
        saturation.ANALYSIS.statistic, "update", lambda self, chunk: (gate.wait(20), update(self, chunk))
    )
    yield gate
    gate.set()


@pytest.mark.parametrize("path", ["analyses/timescales", "predict", "trace"])
def test_a_jobs_result_is_the_reply(client, path):
    path = f"/v1/models/founding/{path}"
    job = ended(client, begun(client, path, BODY))
    assert job["state"] == "done"
    assert job["result"] == client.post(path, json=BODY).json()
    assert job["problem"] is None
    assert job["expires_at"] == pytest.approx(time.time() + 3600, abs=60)


def test_a_stored_traces_analysis_is_a_job_too(client):
    stored = client.post("/v1/traces", json=BODY | {"model": "founding"}).json()["trace_id"]
    path = f"/v1/traces/{stored}/analyses/variance"
    assert ended(client, begun(client, path, {}))["result"] == client.post(path, json={}).json()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/founding/analyses/timescales", {"inputs": [[1.0]]}, 422),
        ("/v1/models/nobody/predict", BODY, 404),
    ],
)
def test_a_job_that_fails_tells_what_the_reply_would_tell(client, path, body, status):
    job = ended(client, begun(client, path, body))
    assert (job["state"], job["result"], job["problem"]["status"]) == ("failed", None, status)
    assert job["problem"] == client.post(path, json=body).json()


def test_what_is_not_json_is_refused_at_once(client):
    headers = ASYNC | {"accept": "application/vnd.safetensors"}
    assert client.post("/v1/models/founding/predict", json=BODY, headers=headers).status_code == 406


def test_a_running_job_is_cancelled_and_then_forgotten(client, held):
    job_id = begun(client, "/v1/models/founding/analyses/saturation", BODY)
    while client.get(f"/v1/jobs/{job_id}").json()["state"] != "running":
        time.sleep(0.01)
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "cancelled"
    held.set()
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    gone = client.get(f"/v1/jobs/{job_id}")
    assert (gone.status_code, gone.json()["title"]) == (404, "JobNotFound")


def test_jobs_wait_their_turn_and_too_many_are_refused(client, held):
    path = "/v1/models/founding/analyses/saturation"
    started = [begun(client, path, BODY) for _ in range(3)]
    states = [client.get(f"/v1/jobs/{job_id}").json()["state"] for job_id in started]
    assert states.count("queued") >= 3 - jobs_module.AT_ONCE
    refused = client.post(path, json=BODY, headers=ASYNC)
    assert (refused.status_code, refused.json()["title"]) == (429, "Overloaded")
    waiting = client.post("/v1/models/founding/analyses/variance", json=BODY)
    assert waiting.status_code == 200  # nobody who waits stands behind jobs
    held.set()
    assert {ended(client, job_id)["state"] for job_id in started} == {"done"}


def test_results_that_are_too_large_together_make_room(client):
    inputs = torch.zeros(500, 5).tolist()
    path = "/v1/models/founding/trace"
    first, *_, last = [ended(client, begun(client, path, {"inputs": inputs}))["job_id"] for _ in range(4)]
    assert client.get(f"/v1/jobs/{first}").status_code == 404
    assert client.get(f"/v1/jobs/{last}").json()["result"]["sequence_lengths"] == [500]


def test_a_deadline_is_of_those_who_wait(client, held):
    job_id = begun(client, "/v1/models/founding/analyses/saturation", BODY, **{"x-request-timeout-ms": "100"})
    time.sleep(0.3)
    held.set()
    assert ended(client, job_id)["state"] == "done"
