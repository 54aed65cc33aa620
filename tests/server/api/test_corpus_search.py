"""Searches of a corpus, its units, and statistics over it."""

import numpy as np
import pytest
import torch

from gatescope import analyse, trace
from gatescope.corpus import pattern_units
from tests.server.api.test_corpora import rows, traced, write_csv

DATA = rows(40, seed=9)
ASYNC = {"prefer": "respond-async"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_csv(folder / "weather.csv", DATA)
    (folder / "lines.txt").write_text("abc\n\ncab ab\nb\n" * 5)
    return folder


@pytest.fixture(scope="module")
def client(serve_models, models_dir, folder):
    with serve_models(models_dir, corpora_dir=folder) as client:
        yield client


@pytest.fixture(scope="module")
def corpus(client):
    return f"/v1/corpora/{traced(client, 'weather.csv')['corpus_id']}"


@pytest.fixture(scope="module")
def signals(networks):
    """Name -> (step, unit) of the second layer, of each sequence."""
    runs = [trace(networks["founding"].lstm, torch.tensor(each, dtype=torch.float32)) for each in DATA.values()]
    return [run.cell_state[0, 1, 0].numpy() for run in runs]


def asked(**more):
    return {"signal": "cell_state", "layer": 1, "threshold": 0.05} | more


def a_pattern(signals):
    """The first span of two steps or more to which two units belong."""
    for number, values in enumerate(signals):
        for start in range(len(values) - 1):
            for stop in range(start + 2, len(values) + 1):
                if len(units := pattern_units(values, start, stop, 0.05)) >= 2:
                    return {"sequence": number, "start": start, "stop": stop}, units
    raise LookupError


def test_a_pattern_is_found_where_it_stands_and_elsewhere(client, corpus, signals):
    pattern, units = a_pattern(signals)
    found = client.post(f"{corpus}/search", json=asked(pattern=pattern, limit=1000)).json()
    assert found["units"] == units
    assert found["places"][0]["units"] == units
    assert pattern.items() <= next(each for each in found["places"] if each["sequence"] == pattern["sequence"]).items()
    assert found["total"] == len(found["places"])
    for place in found["places"]:
        values = signals[place["sequence"]]
        belong = pattern_units(values, place["start"], place["stop"], 0.05)
        assert place["units"] == [unit for unit in belong if unit in units]
        assert place["union"] == len(set(belong) | set(units))
        assert place["id"] == f"basin {place['sequence']}"
        np.testing.assert_array_equal(place["inputs"], DATA[place["id"]][place["start"] : place["stop"]])
    ranks = [(-len(each["units"]), each["union"], each["start"] - each["stop"]) for each in found["places"]]
    assert ranks == sorted(ranks)


def test_a_pattern_may_stand_in_a_stored_trace(client, corpus, signals):
    pattern, _ = a_pattern(signals)
    expected = client.post(f"{corpus}/search", json=asked(pattern=pattern)).json()
    inputs = DATA[f"basin {pattern['sequence']}"].tolist()
    trace_id = client.post("/v1/traces", json={"model": "founding", "inputs": inputs}).json()["trace_id"]
    given = pattern | {"trace_id": trace_id, "sequence": 0}
    assert client.post(f"{corpus}/search", json=asked(pattern=given)).json() == expected
    given = pattern | {"corpus": corpus.rpartition("/")[2], "sequence": f"basin {pattern['sequence']}"}
    assert client.post(f"{corpus}/search", json=asked(pattern=given)).json() == expected


def test_a_search_may_be_a_job(client, corpus, signals):
    body = asked(pattern=a_pattern(signals)[0])
    job = client.post(f"{corpus}/search", json=body, headers=ASYNC).json()["job_id"]
    while (reply := client.get(f"/v1/jobs/{job}").json())["state"] != "done":
        assert reply["state"] in {"queued", "running"}
    assert reply["result"] == client.post(f"{corpus}/search", json=body).json()


SPAN = {"sequence": 0, "start": 0, "stop": 1}
REFUSED = [
    ({"signal": "nonsense"}, "signal"),
    ({"signal": "tanh_cell_state"}, "signal"),
    ({"layer": 2}, "there is no layer 2"),
    ({"direction": "reverse"}, "there is no 'reverse'"),
    ({"threshold": 99.0}, "no unit is off before it"),
    ({"units": [6]}, "there is no unit 6"),
    ({"units": []}, "no unit is off before it"),
    ({"pattern": SPAN | {"stop": 6}}, "0 to 6 is no span"),
    ({"pattern": SPAN | {"start": 3, "stop": 3}}, "is no span"),
    ({"pattern": SPAN | {"sequence": 40}}, "there are 0 to 39"),
    ({"pattern": SPAN | {"sequence": "basin"}}, "there is no sequence 'basin'"),
    ({"pattern": SPAN | {"trace_id": "a", "corpus": "b"}}, "leave one of the two out"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_cannot_be_searched_is_refused(client, corpus, change, message):
    reply = client.post(f"{corpus}/search", json=asked(pattern=SPAN) | change)
    assert reply.status_code == 422, reply.text
    assert message in reply.json()["detail"]
    later = client.post(f"{corpus}/search", json=asked(pattern=SPAN) | change, headers=ASYNC)
    assert (later.status_code, later.json()) == (422, reply.json())


def test_patterns_of_other_weights_are_refused(client, corpus):
    stored = client.post("/v1/traces", json={"model": "river", "inputs": [[1.0, 7.0]]}).json()["trace_id"]
    reply = client.post(f"{corpus}/search", json=asked(layer=0, pattern=SPAN | {"trace_id": stored}))
    assert "is not of the weights" in reply.json()["detail"]


def test_a_units_places_and_means_are_told(client, corpus, signals):
    found = client.get(f"{corpus}/units/3?signal=cell_state&layer=1&limit=4").json()
    highest = found["highest"][0]
    every = np.concatenate(signals)[:, 3]
    assert highest["value"] == pytest.approx(every.max(), abs=1e-6)
    assert found["lowest"][0]["value"] == pytest.approx(every.min(), abs=1e-6)
    values = signals[highest["sequence"]][:, 3]
    assert values[highest["time_step"]] == pytest.approx(highest["value"], abs=1e-6)
    np.testing.assert_array_equal(highest["inputs"], DATA[highest["id"]][highest["time_step"]])
    assert len(found["highest"]) == len(found["lowest"]) == 4
    assert [each["feature"] for each in found["features"]] == list("abcde")
    means = found["features"][0]
    total = sum(mean * count for mean, count in zip(means["means"], means["counts"], strict=True) if count)
    assert total / sum(means["counts"]) == pytest.approx(every.mean(), abs=1e-5)
    assert client.get(f"{corpus}/units/6").status_code == 422
    assert client.get(f"{corpus}/units/-1").status_code == 422
    assert client.get(f"{corpus}/units/1?layers=1").status_code == 422


def test_a_units_mean_at_each_token_is_told(client):
    corpus_id = traced(client, "lines.txt", "letters")["corpus_id"]
    found = client.get(f"/v1/corpora/{corpus_id}/units/1").json()
    assert {each["token"]: each["count"] for each in found["tokens"]} == {"a": 15, "b": 20, "c": 10, " ": 5}
    assert found["features"] is None
    assert found["highest"][0]["token"] in set("abc ")


@pytest.mark.parametrize("name", ["saturation", "timescales", "variance", "similarity"])
def test_statistics_over_a_corpus_are_those_over_its_traces(client, corpus, networks, name):
    inputs = [torch.tensor(each, dtype=torch.float32) for each in DATA.values()]
    expected = analyse(trace(networks["founding"].lstm, inputs), name)
    found = client.post(f"{corpus}/analyses/{name}", json={}).json()
    assert found["module"] == "lstm"
    for array, told in found["arrays"].items():
        np.testing.assert_allclose(np.array(told["values"], dtype=float), expected[array], rtol=1e-4, atol=1e-5)


def test_what_looks_at_a_whole_run_is_no_statistic(client, corpus):
    reply = client.post(f"{corpus}/analyses/decomposition", json={"sequence": 0})
    assert reply.status_code == 422
    assert "saturation" in reply.json()["detail"]


def test_a_corpus_that_is_not_traced_is_not_searched(client, folder):
    (folder / "bad.csv").write_text("x\n1\n")
    body = {"model": "founding", "name": "bad", "source": "bad.csv"}
    corpus_id = client.post("/v1/corpora", json=body).json()["corpus_id"]
    for path, send in (("search", client.post), ("units/0", client.get), ("analyses/variance", client.post)):
        assert send(f"/v1/corpora/{corpus_id}/{path}").status_code == 409
    assert client.post(f"/v1/corpora/{'0' * 32}/search").status_code == 404
