"""Requests that are answered by jobs."""

import asyncio
import threading
import time
from itertools import count

import pytest
import torch

from gatescope.analysis import saturation, selectivity
from gatescope.errors import InvalidInput
from gatescope.server.api.v1 import backtests
from gatescope.server.serving import jobs as jobs_module
from gatescope.server.serving import tuning
from gatescope.server.serving.analysing import Analyser

ASYNC = {"prefer": "respond-async"}
BODY = {"inputs": [[0.1] * 5] * 4}


@pytest.fixture(scope="module")
def client(serve_models, models_dir):
    with serve_models(models_dir, max_jobs=3, job_store_bytes=1_000_000) as client:
        yield client


@pytest.fixture(scope="module")
def small(serve_models, models_dir):
    """A server that takes little, and two jobs."""
    with serve_models(models_dir, max_jobs=2, max_body_bytes=90_000, max_trace_bytes=300_000) as client:
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


SERIES = [{"name": "s", "values": [0.0, 1.0, 0.5]}]
EDIT = {"signal": "hidden_state", "layer": 0, "set": 0.0}
BAD = [
    ("models/founding/analyses/timescales", {"inputs": [[1.0]]}, 422),
    ("models/founding/analyses/timescales", BODY | {"units": [99]}, 422),
    ("models/founding/analyses/correlation", BODY | {"series": SERIES}, 422),  # of other steps than the inputs
    (
        "models/founding/analyses/probe",
        {"inputs": [[0.1] * 5] * 20, "series": [{"name": "s", "values": [0, 1] * 10}]},
        422,
    ),
    ("models/founding/analyses/decomposition", BODY | {"time_step": 4}, 422),
    ("models/founding/analyses/gradient_flow", BODY | {"sequence": 1}, 422),
    ("models/founding/analyses/periodicity", BODY, 422),
    ("models/founding/analyses/selectivity", BODY | {"classes": ["a"] * 5}, 422),
    ("models/founding/analyses/memory", BODY | {"changed_step": 4}, 422),
    ("models/founding/analyses/lesions", BODY, 422),  # there is no head
    ("models/forecaster/analyses/lesions", {"inputs": [[1.0, 2.0]] * 4, "targets": [1.0]}, 422),
    ("models/forecaster/analyses/attribution", {"inputs": [[1.0, 2.0]] * 4, "targets": ["rain"]}, 422),
    ("models/forecaster/analyses/connectivity", {"inputs": [[1.0, 2.0]] * 4, "target": "rain"}, 422),
    ("models/founding/analyses/variance", {"inputs": [[0.1] * 5] * 3000}, 200),
    ("models/founding/analyses/gradient_flow", {"inputs": [[0.1] * 5] * 3000}, 413),
    ("models/founding/analyses/nonsense", BODY, 404),
    ("models/nobody/predict", BODY, 404),
    ("models/founding/predict", BODY | {"horizon": 3}, 422),
    ("models/founding/trace", BODY | {"signals": ["nonsense"]}, 422),
    ("models/founding/trace", {"inputs": [[0.1] * 5] * 3000}, 413),
    ("models/founding/explain", BODY | {"layer": 0, "time_step": 4, "unit": 0}, 422),
    ("models/founding/explain", {"trace_id": "none", "layer": 0, "time_step": 0, "unit": 0}, 404),
    ("models/founding/explain", {"trace_id": "", "layer": 0, "time_step": 99, "unit": 0}, 422),
    ("models/founding/intervene", BODY | {"interventions": [EDIT | {"units": [9]}]}, 422),
    ("traces", BODY | {"model": "both-ways", "inputs": [[0.1] * 3] * 3000}, 413),
    ("traces", BODY, 422),
    ("traces//analyses/correlation", {"series": SERIES}, 422),
    ("traces/none/analyses/timescales", {}, 404),
]


@pytest.mark.parametrize(("path", "body", "status"), BAD)
def test_what_can_be_refused_at_once_is_no_job(small, path, body, status):
    """As often as you like, for it takes no place among the jobs."""
    trace_id = small.post("/v1/traces", json=BODY | {"model": "founding"}).json()["trace_id"]
    body = body | {"trace_id": trace_id} if body.get("trace_id") == "" else body
    path = f"/v1/{path}".replace("//", f"/{trace_id}/")
    expected = small.post(path, json=body)
    assert expected.status_code == status, expected.text
    for _ in range(4):
        reply = small.post(path, json=body, headers=ASYNC)
        if status == 200:
            assert reply.status_code == 202
            ended(small, reply.json()["job_id"])
        else:
            assert (reply.status_code, reply.json()) == (status, expected.json())
            assert "preference-applied" not in reply.headers
    assert small.app.state.context.admission.waiting == 0


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [(b"{", "application/json", 400), (b"x", "text/html", 415), (b"0" * 100_000, "application/json", 413)],
)
def test_a_body_that_cannot_be_read_is_refused_at_once(small, content, media_type, status):
    headers = ASYNC | {"content-type": media_type}
    reply = small.post("/v1/models/founding/predict", content=content, headers=headers)
    assert reply.status_code == status, reply.text


GOOD = [
    ("models/founding/predict", BODY),
    ("models/founding/trace", BODY),
    ("models/founding/explain", BODY | {"layer": 0, "time_step": 1, "unit": 0}),
    ("models/founding/intervene", BODY | {"interventions": [EDIT]}),
    ("models/founding/analyses/timescales", BODY),
    ("models/founding/analyses/variance", BODY),
    ("models/forecaster/backtest?target=level", {"inputs": [[1.0, 2.0]] * 9}),
    ("traces", BODY | {"model": "founding"}),
    ("traces//analyses/similarity", {}),
    ("models/founding/explain", {"trace_id": "", "layer": 0, "time_step": 1, "unit": 0}),
]


def test_all_work_of_a_job_is_done_when_it_is_its_turn(client, held, monkeypatch):
    """Two jobs run, so that no other has its turn: what they ask for is not computed."""
    trace_id = client.post("/v1/traces", json=BODY | {"model": "founding"}).json()["trace_id"]
    monkeypatch.setattr(client.app.state.context.jobs, "_most_open", 100)
    engine = client.app.state.context.engine
    counts = [engine.statistics(engine.model(name)) for name in ("founding", "forecaster")]
    before = sum(each.execution_count for each in counts)
    for _ in range(jobs_module.AT_ONCE):
        begun(client, "/v1/models/founding/analyses/saturation", BODY)
    while sum(each.execution_count for each in counts) < before + jobs_module.AT_ONCE:
        time.sleep(0.01)
    waiting = []
    for path, body in GOOD:
        whole = body | {"trace_id": trace_id} if body.get("trace_id") == "" else body
        waiting.append(begun(client, f"/v1/{path}".replace("//", f"/{trace_id}/"), whole))
    assert {client.get(f"/v1/jobs/{job_id}").json()["state"] for job_id in waiting} == {"queued"}
    assert sum(each.execution_count for each in counts) == before + jobs_module.AT_ONCE
    assert client.delete(f"/v1/jobs/{waiting[0]}").status_code == 204
    held.set()
    assert [ended(client, job_id)["state"] for job_id in waiting] == ["cancelled"] + ["done"] * (len(GOOD) - 1)


def test_the_queries_of_a_job_are_of_the_background(client, monkeypatch):
    scheduler, classes = client.app.state.context.engine._scheduler, []
    submit = scheduler.submit

    def noting(*given, is_background, **named):
        classes.append(is_background)
        return submit(*given, is_background=is_background, **named)

    monkeypatch.setattr(scheduler, "submit", noting)
    long = {"inputs": torch.zeros(40_000, 5).tolist(), "outputs": ["final_state"]}
    for path, body in [*GOOD[:7], ("models/founding/predict", long)]:
        classes.clear()
        expected = client.post(f"/v1/{path}", json=body).json()
        assert set(classes) == {False}
        job = ended(client, begun(client, f"/v1/{path}", body))
        assert job["result"] == expected
        assert set(classes) == {False, True}
        assert classes.count(True) == classes.count(False)


def test_a_job_that_fails_tells_what_the_reply_would_tell(client, monkeypatch):
    def failing(*_):
        raise InvalidInput("nothing can be said")

    monkeypatch.setattr(saturation.ANALYSIS.statistic, "update", failing)
    path = "/v1/models/founding/analyses/saturation"
    job = ended(client, begun(client, path, BODY))
    assert (job["state"], job["result"], job["problem"]["status"]) == ("failed", None, 422)
    assert job["problem"] == client.post(path, json=BODY).json()


def test_progress_is_the_share_of_time_steps(client, monkeypatch):
    """A statistic takes chunks of 32 steps of the 96; it is stopped in each."""
    monkeypatch.setattr(tuning, "CHUNK_BYTES", 1)
    reached, goes_on, update = threading.Semaphore(0), threading.Semaphore(0), saturation.ANALYSIS.statistic.update

    def stopping(self, chunk):
        reached.release()
        assert goes_on.acquire(timeout=20)
        update(self, chunk)

    monkeypatch.setattr(saturation.ANALYSIS.statistic, "update", stopping)
    inputs = torch.zeros(96, 5).tolist()
    job_id, told = begun(client, "/v1/models/founding/analyses/saturation", {"inputs": inputs}), []
    for _ in range(3):
        assert reached.acquire(timeout=20)
        told.append(client.get(f"/v1/jobs/{job_id}").json()["progress"])
        goes_on.release()
    assert told == [None, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert ended(client, job_id)["progress"] == 1.0


def test_progress_is_the_share_of_a_backtests_origins(client, monkeypatch):
    monkeypatch.setattr(backtests, "BATCH_STEPS", 40)
    told, advance = [], backtests._advance
    monkeypatch.setattr(backtests, "_advance", lambda *given: (advance(*given), told.append(the_job().progress))[0])
    the_job = lambda: next(reversed(client.app.state.context.jobs._jobs.values()))  # noqa: E731
    body = {"inputs": [[1.0 + step % 3, 2.0] for step in range(30)]}
    assert ended(client, begun(client, "/v1/models/forecaster/backtest?target=level&window=10", body))["progress"] == 1
    assert told[0] == 0
    assert 0.5 < told[-2] < 1
    assert told == sorted(told)


def test_progress_is_the_share_of_permutations(client, monkeypatch):
    reached, goes_on, exchanged, index = threading.Event(), threading.Event(), selectivity._exchanged, count(1)

    def stopping(*given):
        if next(index) == selectivity.PERMUTATIONS // 4 + 1:
            reached.set()
            assert goes_on.wait(20)
        return exchanged(*given)

    monkeypatch.setattr(selectivity, "_exchanged", stopping)
    body = {"inputs": torch.randn(40, 5).tolist(), "classes": ["a", "b"] * 20}
    job_id = begun(client, "/v1/models/founding/analyses/selectivity", body)
    assert reached.wait(20)
    assert client.get(f"/v1/jobs/{job_id}").json()["progress"] == pytest.approx(0.25, abs=0.01)
    goes_on.set()
    assert ended(client, job_id)["progress"] == 1.0


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


def test_a_check_that_takes_too_long_is_given_up_and_leaves_no_job(client, monkeypatch):
    jobs, given_up = client.app.state.context.jobs, threading.Event()

    async def slow(*_):
        try:
            await asyncio.sleep(20)
        finally:
            given_up.set()

    monkeypatch.setattr(Analyser, "find", slow)
    before = dict(jobs._jobs)
    headers = ASYNC | {"x-request-timeout-ms": "100"}
    reply = client.post("/v1/models/founding/analyses/saturation", json=BODY, headers=headers)
    assert (reply.status_code, reply.json()["title"]) == (504, "DeadlineExceeded")
    assert given_up.wait(5)
    assert dict(jobs._jobs) == before


def test_a_deadline_is_of_those_who_wait(client, held):
    job_id = begun(client, "/v1/models/founding/analyses/saturation", BODY, **{"x-request-timeout-ms": "100"})
    time.sleep(0.3)
    held.set()
    assert ended(client, job_id)["state"] == "done"
