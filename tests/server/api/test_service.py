"""The service around the models: health, ids, keys, deadlines, overload, metrics, unforeseen errors."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

pytestmark = pytest.mark.usefixtures("on_device")

GOOD = {"inputs": [[1.0, 2.0, 3.0, 4.0, 5.0]]}
PREDICT = "/v1/models/founding/predict"


@pytest.fixture
def slow(monkeypatch):
    """Every query takes this many seconds of the device thread."""
    from gatescope.pipeline.pipeline import Pipeline  # noqa: PLC0415

    answer = Pipeline.answer

    def delay(seconds):
        monkeypatch.setattr(Pipeline, "answer", lambda self, query: time.sleep(seconds) or answer(self, query))

    return delay


@pytest.fixture
def slow_steps(monkeypatch):
    """Every step of a horizon takes 10 ms; `taken` counts them."""
    from types import SimpleNamespace  # noqa: PLC0415

    from gatescope.pipeline.sampling import Sampler  # noqa: PLC0415

    count, draw = SimpleNamespace(taken=0), Sampler.draw

    def slowly(self, scores):
        count.taken += 1
        time.sleep(0.01)
        return draw(self, scores)

    monkeypatch.setattr(Sampler, "draw", slowly)
    return count


def test_health_tells_alive_from_ready(client):
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_until_the_models_are_loaded_the_service_is_alive_but_not_ready(models_dir, monkeypatch):
    from gatescope.server.main import create_app  # noqa: PLC0415
    from gatescope.server.repository.repository import Repository  # noqa: PLC0415
    from gatescope.server.settings import Settings  # noqa: PLC0415

    loading = threading.Event()
    monkeypatch.setattr(Repository, "load", lambda _: loading.wait(10))
    app = create_app(Settings(models_dir=models_dir))

    async def ask():
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            replies = [await client.get(path) for path in ("/health/live", "/health/ready", "/v1/models/founding")]
            replies.append(await client.post(PREDICT, json=GOOD))
            loading.set()
            return replies

    import asyncio  # noqa: PLC0415

    live, ready, info, predict = asyncio.run(ask())
    assert live.status_code == 200
    assert (ready.status_code, ready.json()["title"]) == (503, "NotReady")
    assert info.json()["state"] == "loading"
    assert (predict.status_code, predict.json()["title"]) == (503, "NotReady")


def test_a_request_id_is_echoed_or_made(client):
    assert client.get("/v1/models", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = {client.get("/v1/models").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    assert client.get("/nowhere", headers={"X-Request-ID": "lost"}).headers["x-request-id"] == "lost"
    strange = client.get("/v1/models", headers={"X-Request-ID": 'a"} forged log line'})
    assert "forged" not in strange.headers["x-request-id"]


def test_a_request_past_its_deadline_is_answered_504_and_the_next_one_as_usual(serve, slow):
    with serve() as client:
        slow(0.5)
        late = client.post(PREDICT, json=GOOD, headers={"X-Request-Timeout-Ms": "50"})
        assert (late.status_code, late.json()["title"]) == (504, "DeadlineExceeded")
        assert "0.05 seconds" in late.json()["detail"]
        assert client.post(PREDICT, json=GOOD).status_code == 200


@pytest.mark.parametrize("given", ["0", "-5", "soon", "1.5"])
def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(client, given):
    reply = client.post(PREDICT, json=GOOD, headers={"X-Request-Timeout-Ms": given})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["loc"] == ["header", "X-Request-Timeout-Ms"]


def test_the_operator_bounds_the_deadline(serve, slow):
    with serve(request_timeout_s=0.05) as client:
        slow(0.3)
        assert client.post(PREDICT, json=GOOD, headers={"X-Request-Timeout-Ms": "60000"}).status_code == 504


def test_more_requests_than_may_wait_are_answered_429_and_the_others_200(serve, slow):
    with serve(max_queue_size=2) as client, ThreadPoolExecutor(12) as pool:
        slow(0.2)
        replies = list(pool.map(lambda _: client.post(PREDICT, json=GOOD), range(12)))
        statuses = [reply.status_code for reply in replies]
        assert set(statuses) == {200, 429}
        assert statuses.count(200) >= 3
        refused = next(reply for reply in replies if reply.status_code == 429)
        assert refused.json()["title"] == "Overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        assert client.post(PREDICT, json=GOOD).status_code == 200


def test_an_unforeseen_error_is_a_problem_that_leaks_nothing(serve, monkeypatch):
    from gatescope.pipeline.pipeline import Pipeline  # noqa: PLC0415

    def fail(self, query):
        raise RuntimeError("the secret inside")

    with serve() as client:
        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "answer", fail)
            reply = client.post(PREDICT, json=GOOD)
        assert (reply.status_code, reply.json()["title"]) == (500, "InternalError")
        assert "secret" not in reply.text
        assert "Traceback" not in reply.text
        assert reply.headers["x-request-id"]
        assert client.post(PREDICT, json=GOOD).status_code == 200


def test_with_keys_set_only_those_who_have_one_get_in(serve):
    with serve(api_keys=("first", "second")) as client:
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer firs"}, {"Authorization": "Basic first"}):
            refused = client.post(PREDICT, json=GOOD, headers=headers)
            assert (refused.status_code, refused.json()["title"]) == (401, "Unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
        for headers in ({"X-API-Key": "first"}, {"Authorization": "Bearer second"}):
            assert client.post(PREDICT, json=GOOD, headers=headers).status_code == 200
        assert client.get("/v1/models").status_code == 401
        for path in ("/health/live", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"):
            assert client.get(path).status_code == 200


def test_browsers_may_call_from_the_origins_that_are_set(serve):
    with serve(cors_origins=("https://a.example",), api_keys=("k",)) as client:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
        allowed = client.options(PREDICT, headers=asked | {"Origin": "https://a.example"})
        other = client.options(PREDICT, headers=asked | {"Origin": "https://b.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in other.headers


def test_metrics_count_requests_by_route_and_status(serve):
    with serve() as client:
        client.post(PREDICT, json=GOOD)
        client.post(PREDICT, json={})
        client.get("/nowhere")
        text = client.get("/metrics").text
    predict = 'gatescope_requests_total{method="POST",route="/v1/models/{name}/predict",status="%d"} 1.0'
    assert predict % 200 in text
    assert predict % 422 in text
    assert 'route="unknown",status="404"} 1.0' in text
    assert 'gatescope_trace_method{method="workspace",model="founding",version="1"} 1.0' in text


def test_clients_that_leave_in_the_middle_of_a_request_harm_nobody(serve, slow):
    with serve() as client:
        slow(0.1)
        for _ in range(5):
            with pytest.raises(httpx.ReadTimeout):
                client.post(PREDICT, json=GOOD, timeout=0.01)
        assert client.post(PREDICT, json=GOOD).status_code == 200


def test_a_horizon_that_nobody_waits_for_any_more_is_given_up(serve, slow_steps):
    with serve() as client:
        long = {"text": "a", "horizon": 5000}  # a minute's work
        late = client.post("/v1/models/letters/predict", json=long, headers={"X-Request-Timeout-Ms": "200"})
        assert late.status_code == 504
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/models/letters/predict", json=long, timeout=0.2)
        started = time.monotonic()
        assert client.post(PREDICT, json=GOOD, headers={"X-Request-Timeout-Ms": "20000"}).status_code == 200
        assert slow_steps.taken < 2000
        assert time.monotonic() - started < 20


def test_the_deadline_counts_the_reading_of_the_body_too(serve):
    def trickle():
        yield b'{"inputs": '
        time.sleep(2)
        yield b"[[1, 2, 3, 4, 5]]}"

    headers = {"X-Request-Timeout-Ms": "200", "Content-Type": "application/json"}
    with serve() as client:
        assert client.post(PREDICT, content=trickle(), headers=headers).status_code == 504
        assert client.post(PREDICT, json=GOOD).status_code == 200


def test_an_answer_too_large_to_make_is_refused_before_the_work(serve):
    with serve(max_trace_bytes=1000) as client:
        large = client.post(PREDICT, json={"inputs": [[1.0, 2.0, 3.0, 4.0, 5.0]] * 100})
        assert (large.status_code, large.json()["title"]) == (413, "ReplyTooLarge")
        assert f"{100 * 6 * 4:,} bytes" in large.json()["detail"]
        assert client.post(PREDICT, json=GOOD).status_code == 200
