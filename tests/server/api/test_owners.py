"""Sessions, stored traces, corpora and jobs belong to the key that they were made with."""

import json
import shutil
import threading
import time
from functools import partial

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gatescope.analysis import saturation
from gatescope.errors import InvalidInput
from gatescope.server.api.auth import Guard
from gatescope.server.settings import Settings
from tests.serving import serving

INPUTS = [[0.1 * step] * 5 for step in range(8)]
KEYS = {"api_keys": ("alice:a-secret", "bob:b-secret", "c-secret"), "admin_keys": ("boss:d-secret",)}
UNNAMED = "key-8c00f7d6252a"  # printf c-secret | sha256sum
SPAN = {"sequence": 0, "start": 0, "stop": 1}


class As:
    """A client that sends this key."""

    def __init__(self, client, secret):
        self._client, self._key = client, {"X-API-Key": secret}

    def __getattr__(self, method):
        call = getattr(self._client, method)
        return lambda *args, headers=None, **kwargs: call(*args, headers=self._key | (headers or {}), **kwargs)


class Clients:
    """One server, asked by each of its owners."""

    def __init__(self, client):
        self.client, self.url = client, str(client.base_url)
        self.alice, self.bob, self.unnamed, self.boss = (As(client, f"{letter}-secret") for letter in "abcd")


@pytest.fixture(scope="module")
def founding(models_dir, tmp_path_factory):
    """One model, which is loaded soon."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(models_dir / "founding", folder / "founding")
    return folder


@pytest.fixture(scope="module")
def serve(founding):
    return partial(serving, founding)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    np.save(folder / "values.npy", np.random.default_rng(0).normal(size=(4, 12, 5)))
    return folder


@pytest.fixture(scope="module")
def clients(serve, folder):
    with serve(corpora_dir=folder, **KEYS) as client:
        yield Clients(client)


@pytest.fixture(params=["memory", "redis"])
def sessions(request, serve):
    """The owners of a server that keeps sessions in memory or in a Redis."""
    where = "memory" if request.param == "memory" else request.getfixturevalue("redis_server").url
    with serve(session_store=where, **KEYS) as client:
        yield Clients(client)


def opened(client, session_id=None, status=201):
    reply = client.post("/v1/sessions", json={"model": "founding", "session_id": session_id})
    assert reply.status_code == status, reply.text
    return reply.json()


def stepped(client, session_id, steps):
    reply = client.post(f"/v1/sessions/{session_id}/steps", json={"inputs": steps})
    assert reply.status_code == 200, reply.text
    return reply.json()


def stored(client):
    reply = client.post("/v1/traces", json={"model": "founding", "inputs": INPUTS})
    assert reply.status_code == 201, reply.text
    return reply.json()["trace_id"]


def ended(client, path):
    for _ in range(2000):
        told = client.get(path).json()
        if told["state"] not in {"queued", "running"}:
            return told
        time.sleep(0.01)
    raise TimeoutError(told)


def corpus_of(client):
    reply = client.post("/v1/corpora", json={"model": "founding", "name": "values", "source": "values.npy"})
    assert reply.status_code == 202, reply.text
    assert ended(client, f"/v1/corpora/{reply.json()['corpus_id']}")["state"] == "done"
    return reply.json()["corpus_id"]


def job_of(client):
    path = "/v1/models/founding/analyses/timescales"
    reply = client.post(path, json={"inputs": INPUTS}, headers={"prefer": "respond-async"})
    return reply.json()["job_id"]


def assert_missing(reply, title, owned_id, unknown_id, ask):
    """It is refused as one that there never was."""
    unknown = ask(unknown_id)
    assert (reply.status_code, reply.json()["title"]) == (404, title), reply.text
    assert unknown.status_code == 404
    told = reply.json()["detail"].replace(owned_id, unknown_id)
    assert told == unknown.json()["detail"]


class TestSessions:
    def test_two_keys_use_one_id_without_meeting(self, sessions):
        for client in (sessions.alice, sessions.bob):
            assert opened(client, "s")["session_id"] == "s"
        whole = sessions.alice.post("/v1/models/founding/predict", json={"inputs": INPUTS}).json()["output"][0]
        first = stepped(sessions.alice, "s", INPUTS[:4])["output"][0]
        assert stepped(sessions.bob, "s", INPUTS)["steps"] == 1
        second = stepped(sessions.alice, "s", INPUTS[4:])
        assert second["steps"] == 2
        np.testing.assert_allclose(first + second["output"][0], whole, atol=1e-6)
        opened(sessions.alice, "s", status=409)
        assert sessions.alice.delete("/v1/sessions/s").status_code == 204
        assert sessions.bob.get("/v1/sessions/s").json()["steps"] == 1

    def test_somebody_elses_is_not_found_by_any_route(self, sessions):
        opened(sessions.alice, "mine")
        for method, path, body in (
            ("GET", "", None),
            ("DELETE", "", None),
            ("GET", "/state", None),
            ("PUT", "/state", {"hidden_state": [], "cell_state": []}),
            ("POST", "/steps", {"inputs": INPUTS}),
        ):
            ask = partial(
                lambda name, method, path, body: sessions.bob.request(method, f"/v1/sessions/{name}{path}", json=body),
                method=method,
                path=path,
                body=body,
            )
            assert_missing(ask("mine"), "SessionNotFound", "mine", "none", ask)
        url = f"ws{sessions.url.removeprefix('http')}/v1/sessions/mine/stream"
        with pytest.raises(InvalidStatus) as refused:
            connect(url, additional_headers={"X-API-Key": "b-secret"}).close()
        assert refused.value.response.status_code == 404
        for key, steps in (("a-secret", 1), ("d-secret", 2)):
            with connect(url, additional_headers={"X-API-Key": key}) as stream:
                stream.send(json.dumps({"inputs": INPUTS}))
                assert json.loads(stream.recv())["steps"] == steps

    def test_lists_show_ones_own_and_an_admin_key_all(self, sessions):
        opened(sessions.alice, "s")
        opened(sessions.bob, "s")
        opened(sessions.unnamed, "t")
        assert [each["session_id"] for each in sessions.alice.get("/v1/sessions").json()["sessions"]] == ["s"]
        found = {(each["owner"], each["session_id"]) for each in sessions.boss.get("/v1/sessions").json()["sessions"]}
        assert found == {("alice", "s"), ("bob", "s"), (UNNAMED, "t")}

    def test_an_admin_key_finds_its_own_then_the_only_other_one(self, sessions):
        opened(sessions.alice, "s")
        assert sessions.boss.get("/v1/sessions/s").json()["owner"] == "alice"
        assert stepped(sessions.boss, "s", INPUTS)["steps"] == 1
        opened(sessions.bob, "s")
        reply = sessions.boss.get("/v1/sessions/s")
        assert (reply.status_code, reply.json()["title"]) == (409, "Conflict")
        assert "'alice', 'bob' each have a session 's'" in reply.json()["detail"]
        opened(sessions.boss, "s")
        assert sessions.boss.get("/v1/sessions/s").json()["owner"] == "boss"
        assert sessions.alice.get("/v1/sessions/s").json()["steps"] == 1

    def test_sequences_of_v2_are_ones_own(self, sessions):
        def step(client, *flags):
            body = {
                "parameters": {"sequence_id": 7} | {f"sequence_{flag}": True for flag in flags},
                "inputs": [{"name": "inputs", "datatype": "FP32", "shape": [1, 8, 5], "data": [INPUTS]}],
                "outputs": [{"name": "final_hidden_state"}],
            }
            reply = client.post("/v2/models/founding/infer", json=body)
            return reply.status_code, reply.json().get("outputs", [{}])[0].get("data")

        begun = step(sessions.alice, "start")
        assert begun[0] == 200
        for client in (sessions.bob, sessions.boss):
            assert step(client)[0] == 400  # there is none of this id
            assert step(client, "start") == begun
        goes_on = step(sessions.alice)
        assert goes_on[0] == 200
        assert goes_on[1] != begun[1]
        assert step(sessions.bob, "end") == goes_on
        owners = {each["owner"] for each in sessions.boss.get("/v1/sessions").json()["sessions"]}
        assert owners == {"alice", "boss"}

    def test_the_most_that_may_be_open_is_of_all_together(self, serve):
        with serve(max_sessions=2, **KEYS) as client:
            opened(As(client, "a-secret"), "s")
            opened(As(client, "b-secret"), "s")
            opened(As(client, "c-secret"), "s", status=429)


class TestTraces:
    def test_somebody_elses_is_not_found_by_any_route(self, clients):
        trace_id, unknown = stored(clients.alice), "0" * 41
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/values", None),
            ("POST", "/analyses/timescales", {}),
            ("DELETE", "", None),
        ):
            ask = partial(
                lambda name, method, path, body: clients.bob.request(method, f"/v1/traces/{name}{path}", json=body),
                method=method,
                path=path,
                body=body,
            )
            assert_missing(ask(trace_id), "TraceNotFound", trace_id, unknown, ask)
        for client in (clients.alice, clients.boss):
            assert client.get(f"/v1/traces/{trace_id}").status_code == 200

    @pytest.mark.parametrize("prefer", ["", "respond-async"])
    def test_nobody_else_can_use_one_indirectly(self, clients, prefer):
        trace_id, unknown = stored(clients.alice), "0" * 41
        corpus = corpus_of(clients.bob)
        at = {"signal": "cell_state", "layer": 0, "threshold": 0.05}
        edit = {"signal": "hidden_state", "layer": 0}
        uses = {
            "/v1/models/founding/explain": lambda used: {"trace_id": used, "layer": 0, "time_step": 1, "unit": 0},
            "/v1/models/founding/intervene": lambda used: {"trace_id": used, "interventions": [edit | {"set": 0.0}]},
            "/v1/models/founding/versions/1/intervene": lambda used: {
                "inputs": INPUTS,
                "interventions": [edit | {"patch_from": {"trace_id": used}}],
            },
            f"/v1/corpora/{corpus}/search": lambda used: at | {"pattern": SPAN | {"trace_id": used}},
            "/v1/traces/{}/analyses/variance": lambda used: {},  # noqa: ARG005 - the path has it
        }
        for path, body in uses.items():
            ask = partial(
                lambda used, path, body: clients.bob.post(
                    path.format(used), json=body(used), headers={"prefer": prefer}
                ),
                path=path,
                body=body,
            )
            assert_missing(ask(trace_id), "TraceNotFound", trace_id, unknown, ask)
            if "corpora" not in path:
                assert clients.alice.post(path.format(trace_id), json=body(trace_id)).status_code == 200
                assert clients.boss.post(path.format(trace_id), json=body(trace_id)).status_code == 200

    def test_why_one_is_gone_is_its_owners_to_know(self, clients):
        trace_id = stored(clients.alice)
        clients.alice.delete(f"/v1/traces/{trace_id}")
        told = [
            client.get(f"/v1/traces/{trace_id}").json()["detail"]
            for client in (clients.alice, clients.boss, clients.bob)
        ]
        assert ["it was deleted" in each for each in told] == [True, True, False]

    def test_an_id_is_of_a_replica_and_128_random_bits(self, clients):
        ids = [stored(clients.alice).split("-") for _ in range(2)]
        assert ids[0][0] == ids[1][0] != ids[0][1]
        assert {len(own) for _, own in ids} == {32}


class TestCorpora:
    def test_somebody_elses_is_not_found_by_any_route(self, clients):
        corpus, unknown = corpus_of(clients.alice), "0" * 32
        at = {"signal": "cell_state", "layer": 0, "threshold": 0.05, "pattern": SPAN}
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/units/1", None),
            ("POST", "/search", at),
            ("POST", "/analyses/timescales", {}),
            ("DELETE", "", None),
        ):
            ask = partial(
                lambda name, method, path, body: clients.bob.request(method, f"/v1/corpora/{name}{path}", json=body),
                method=method,
                path=path,
                body=body,
            )
            assert_missing(ask(corpus), "CorpusNotFound", corpus, unknown, ask)
        own = corpus_of(clients.bob)
        indirect = at | {"pattern": SPAN | {"corpus": corpus}}
        assert clients.bob.post(f"/v1/corpora/{own}/search", json=indirect).status_code == 404
        listed = {
            name: {each["corpus_id"] for each in getattr(clients, name).get("/v1/corpora").json()["corpora"]}
            for name in ("alice", "bob", "boss")
        }
        assert corpus in listed["alice"] & listed["boss"] - listed["bob"]
        assert own in listed["bob"] & listed["boss"] - listed["alice"]
        assert clients.boss.get(f"/v1/corpora/{corpus}").json()["owner"] == "alice"

    def test_the_owner_outlives_a_restart_and_old_records_are_everybodys(self, serve, folder, clients):
        corpora = [corpus_of(clients.alice) for _ in range(2)]
        record = folder / "corpora" / corpora[1] / "corpus.json"
        told = json.loads(record.read_text())
        assert told.pop("owner") == "alice"
        record.write_text(json.dumps(told))  # as a version wrote it that knew no owners
        with serve(corpora_dir=folder, **KEYS) as client:
            bob = As(client, "b-secret")
            assert [bob.get(f"/v1/corpora/{each}").status_code for each in corpora] == [404, 200]
            assert bob.get(f"/v1/corpora/{corpora[1]}").json()["owner"] is None
            assert As(client, "a-secret").get(f"/v1/corpora/{corpora[0]}").json()["owner"] == "alice"

    def test_the_job_that_traces_it_is_its_owners(self, clients):
        reply = clients.alice.post("/v1/corpora", json={"model": "founding", "name": "v", "source": "values.npy"})
        path = f"/v1/jobs/{reply.json()['job_id']}"
        assert clients.bob.get(path).status_code == 404
        assert clients.bob.delete(path).status_code == 404
        assert ended(clients.boss, path)["state"] == "done"


class TestJobs:
    def test_somebody_elses_is_not_found(self, clients):
        job_id, unknown = job_of(clients.alice), "0" * 32
        for method in ("GET", "DELETE"):
            ask = partial(lambda name, method: clients.bob.request(method, f"/v1/jobs/{name}"), method=method)
            assert_missing(ask(job_id), "JobNotFound", job_id, unknown, ask)
        for client in (clients.alice, clients.boss):
            assert ended(client, f"/v1/jobs/{job_id}")["state"] == "done"

    def test_nobody_else_cancels_one(self, clients, monkeypatch):
        gate, update = threading.Event(), saturation.ANALYSIS.statistic.update
        monkeypatch.setattr(
            saturation.ANALYSIS.statistic, "update", lambda self, chunk: (gate.wait(20), update(self, chunk))
        )
        path = "/v1/models/founding/analyses/saturation"
        reply = clients.alice.post(path, json={"inputs": INPUTS}, headers={"prefer": "respond-async"})
        job = f"/v1/jobs/{reply.json()['job_id']}"
        assert clients.bob.delete(job).status_code == 404
        assert clients.alice.get(job).json()["state"] in {"queued", "running"}
        assert clients.boss.delete(job).status_code == 204
        assert clients.alice.get(job).json()["state"] == "cancelled"
        gate.set()

    def test_a_trace_that_a_job_stores_is_its_owners(self, clients):
        body = {"model": "founding", "inputs": INPUTS}
        reply = clients.alice.post("/v1/traces", json=body, headers={"prefer": "respond-async"})
        trace_id = ended(clients.alice, f"/v1/jobs/{reply.json()['job_id']}")["result"]["trace_id"]
        codes = [client.get(f"/v1/traces/{trace_id}").status_code for client in (clients.alice, clients.bob)]
        assert codes == [200, 404]


class TestKeys:
    def test_without_keys_everybody_is_the_same(self, serve):
        with serve() as client:
            opened(client, "s")
            other = As(client, "whatever")
            assert other.get("/v1/sessions/s").json()["owner"] is None
            assert other.get(f"/v1/traces/{stored(client)}").status_code == 200
            assert ended(other, f"/v1/jobs/{job_of(client)}")["state"] == "done"

    def test_where_only_admin_keys_are_set_what_they_make_is_theirs(self, serve):
        with serve(admin_keys=("boss:d-secret",)) as client:
            boss = As(client, "d-secret")
            theirs, everybodys = stored(boss), stored(client)
            assert [client.get(f"/v1/traces/{each}").status_code for each in (theirs, everybodys)] == [404, 200]
            assert [boss.get(f"/v1/traces/{each}").status_code for each in (theirs, everybodys)] == [200, 200]

    def test_two_keys_of_one_name_are_one_owner(self, serve):
        with serve(api_keys=("alice:old", "alice:new")) as client:
            opened(As(client, "old"), "s")
            assert As(client, "new").get("/v1/sessions/s").json()["owner"] == "alice"

    def test_a_name_is_no_part_of_the_key(self, serve):
        with serve(api_keys=("alice:se:cret",)) as client:
            codes = [As(client, key).get("/v1/models").status_code for key in ("se:cret", "alice:se:cret", "alice")]
            assert codes == [200, 401, 401]

    def test_one_connection_may_be_shared_by_owners(self, clients, dial):
        opened(clients.alice, "wired")
        wire = dial(clients.client)
        path = "/v1/sessions/wired"
        for _ in range(2):
            for key, status in (("a-secret", 200), ("b-secret", 404), ("d-secret", 200)):
                wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode())
                assert wire.reply().status == status

    @pytest.mark.parametrize("stated", ["na me:key", ":key", "alice:", "a/b:key", "é:key", f"{'a' * 65}:key"])
    def test_what_can_be_no_name_is_refused(self, stated):
        with pytest.raises(InvalidInput, match=r"GATESCOPE_API_KEYS: a key is KEY or NAME:KEY") as refused:
            Guard((stated,), (), (), None)
        assert stated not in str(refused.value)

    def test_one_key_with_two_names_is_refused(self):
        with pytest.raises(InvalidInput, match="has two names"):
            Guard(("alice:key", "bob:key"), (), (), None)
        Guard(("alice:key", "alice:key"), ("boss:key",), (), None)

    def test_a_setting_that_cannot_be_is_refused_without_its_keys(self, monkeypatch):
        monkeypatch.setenv("GATESCOPE_ADMIN_KEYS", "secret,,other")
        with pytest.raises(InvalidInput, match="GATESCOPE_ADMIN_KEYS: must be values separated") as refused:
            Settings.of_environment()
        assert "secret" not in str(refused.value)
