"""Data sets that are traced onto the disk."""

import contextlib
import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
import torch

from gatescope import trace
from gatescope.server.api.corpora import tracing
from gatescope.zarr_store import Reader
from tests.serving import NO_TLS, serving

FEATURES = "abcde"


def rows(sequences, seed=0):
    values = np.random.default_rng(seed)
    return {f"basin {each}": values.normal(size=(5 + each % 4, 5)).round(3) for each in range(sequences)}


def write_csv(path, data):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["basin", *FEATURES])
        for name, values in data.items():
            writer.writerows([name, *row] for row in values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, outside = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("outside")
    write_csv(folder / "weather.csv", rows(30))
    (outside / "outside.csv").write_text("a,b,c,d,e\n1,2,3,4,5\n")
    (folder / "out.csv").symlink_to(outside / "outside.csv")
    (folder / "away").symlink_to(outside)
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    (folder / "corpora").mkdir()
    (folder / "corpora" / "inside.csv").write_text("a\n1\n")
    (folder / "folder.csv").mkdir()
    (folder / "model.pkl").write_bytes(b"x")
    os.mkfifo(folder / "pipe.csv")
    return folder


@pytest.fixture(scope="module")
def client(serve_models, models_dir, folder):
    with serve_models(models_dir, corpora_dir=folder) as client:
        yield client


def begin(client, source, model="founding", **more):
    body = {"model": model, "name": "a data set", "source": source} | more
    return client.post("/v1/corpora", json=body)


def ended(client, corpus_id):
    for _ in range(2000):
        corpus = client.get(f"/v1/corpora/{corpus_id}").json()
        if corpus["state"] not in {"queued", "running"}:
            return corpus
        time.sleep(0.01)
    raise TimeoutError(corpus)


def traced(client, source, model="founding", **more):
    reply = begin(client, source, model, **more)
    assert reply.status_code == 202, reply.text
    corpus = ended(client, reply.json()["corpus_id"])
    assert corpus["state"] == "done", corpus
    return corpus


def reader(folder, corpus):
    return Reader(folder / "corpora" / corpus["corpus_id"] / "trace.zarr")


def assert_traced(found, module, data, names=("cell_state", "forget_gate")):
    assert found.ids == list(data)
    for index, values in enumerate(data.values()):
        expected = trace(module, torch.tensor(values, dtype=torch.float32))
        record = found.record(index)
        for name in names:
            np.testing.assert_allclose(record.signals[name], expected.signals[name][0], atol=1e-6)


def test_a_table_is_traced_sequence_by_sequence(client, folder, networks):
    corpus = traced(client, "weather.csv")
    data = rows(30)
    steps = sum(map(len, data.values()))
    assert (corpus["sequences"], corpus["steps"], corpus["progress"]) == (30, steps, 1.0)
    assert corpus["bytes"] > 0
    found = reader(folder, corpus)
    assert_traced(found, networks["founding"].lstm, data)
    np.testing.assert_array_equal(found.record(7).inputs, data["basin 7"])
    assert found.attributes["model"] == "founding"
    assert corpus in client.get("/v1/corpora").json()["corpora"]


def test_parts_of_any_size_give_the_same(client, folder, networks, monkeypatch):
    monkeypatch.setattr(tracing, "BATCH_BYTES", 8000)
    assert_traced(reader(folder, traced(client, "weather.csv")), networks["founding"].lstm, rows(30))


def test_a_corpus_is_traced_in_the_background(client, folder, monkeypatch):
    scheduler, classes = client.app.state.context.engine._scheduler, []
    submit = scheduler.submit
    monkeypatch.setattr(
        scheduler,
        "submit",
        lambda *given, **named: (classes.append(named["is_background"]), submit(*given, **named))[1],
    )
    np.save(folder / "some.npy", np.zeros((2, 4, 5)))
    traced(client, "some.npy")
    assert set(classes) == {True}


def test_arrays_and_parquet_are_traced(client, folder, networks):
    values = np.random.default_rng(1).normal(size=(4, 6, 5)).astype(np.float32)
    np.save(folder / "values.npy", values)
    found = reader(folder, traced(client, "values.npy"))
    assert_traced(found, networks["founding"].lstm, {str(each): row for each, row in enumerate(values)})
    pd = pytest.importorskip("pandas")
    pd.read_csv(folder / "weather.csv").to_parquet(folder / "weather.parquet")
    found = reader(folder, traced(client, "weather.parquet", id="basin"))
    assert_traced(found, networks["founding"].lstm, rows(30))


def test_each_line_of_a_text_is_a_sequence(client, folder):
    (folder / "lines.txt").write_text("abc\n\ncab ab\nb\n")
    found = reader(folder, traced(client, "lines.txt", "letters"))
    assert found.ids == ["1", "3", "4"]
    assert found.record(1).tokens == list("cab ab")


def test_both_directions_are_traced(client, folder, networks):
    values = np.random.default_rng(1).normal(size=(3, 6, 3))
    np.save(folder / "both.npy", values)
    found = reader(folder, traced(client, "both.npy", "both-ways"))
    assert_traced(found, networks["both-ways"].lstm, {str(each): row for each, row in enumerate(values)})


def test_a_corpus_can_be_deleted(client, folder):
    corpus_id = traced(client, "weather.csv")["corpus_id"]
    assert client.delete(f"/v1/corpora/{corpus_id}").status_code == 204
    assert not (folder / "corpora" / corpus_id).exists()
    reply = client.get(f"/v1/corpora/{corpus_id}")
    assert (reply.status_code, reply.json()["title"]) == (404, "CorpusNotFound")
    assert client.get("/v1/corpora/..%2F..").status_code == 404


HOSTILE = [
    ("../weather.csv", "neither absolute nor with '..'"),
    ("sub/../../weather.csv", "neither absolute nor with '..'"),
    ("/etc/passwd", "neither absolute nor with '..'"),
    ("out.csv", "does not lie in the folder"),
    ("away/outside.csv", "does not lie in the folder"),
    ("corpora/inside.csv", "does not lie in the folder"),
    ("nothing.csv", "there is no 'nothing.csv'"),
    ("a\0b.csv", "must be the path of a file"),
    ("a\\b.csv", "must be the path of a file"),
    ("x" * 2000, "must be the path of a file"),
    ("y" * 900, "there is no"),
    ("folder.csv", "is no file"),
    ("pipe.csv", "is no file"),
    ("loop.csv", "there is no"),
    ("model.pkl", "data sets end in"),
]


@pytest.mark.parametrize(("source", "message"), HOSTILE)
def test_what_lies_elsewhere_is_refused(client, source, message):
    reply = begin(client, source)
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["loc"] == ["body", "source"]
    assert message in reply.json()["detail"]


UNREADABLE = {
    "binary.csv": (b"\x00\x01\x02\xff" * 100, "founding"),
    "empty.csv": (b"", "founding"),
    "other.csv": (b"x,y\n1,2\n", "founding"),
    "words.csv": (b"a,b,c,d,e\n1,2,3,4,five\n", "founding"),
    "no.npy": (b"\x93NUMPY\x01\x00garbage", "founding"),
    "pickle.npy": (None, "founding"),
    "huge.npy": (None, "founding"),
    "flat.npy": (None, "founding"),
    "latin.txt": ("a\xe9".encode("latin-1"), "letters"),
    "blank.txt": (b"\n\n", "letters"),
    "unknown.txt": (b"abc\nabz\n", "letters"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_data_set_fails_with_a_reason(client, folder, name):
    content, model = UNREADABLE[name]
    path = folder / name
    if content is not None:
        path.write_bytes(content)
    elif name == "pickle.npy":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif name == "flat.npy":
        np.save(path, np.zeros(3))
    else:
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000, 5), }".ljust(117) + "\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    corpus = ended(client, begin(client, name, model).json()["corpus_id"])
    assert corpus["state"] == "failed", corpus
    assert corpus["problem"]["title"] == "InvalidInput", corpus
    assert name in corpus["problem"]["detail"]
    assert str(folder) not in corpus["problem"]["detail"]


def test_a_sequence_that_is_too_long_is_named(client, folder):
    np.save(folder / "long.npy", np.zeros((1, 100_001, 5), dtype=np.float32))
    corpus = ended(client, begin(client, "long.npy").json()["corpus_id"])
    assert "long.npy, sequence 0: " in corpus["problem"]["detail"]


def test_requests_that_fit_no_model_are_refused_at_once(client, folder):
    (folder / "t.txt").write_text("1 2\n")
    assert "give the ids of its tokens as .npy" in begin(client, "t.txt", "ids").json()["detail"]
    assert "reads tokens" in begin(client, "weather.csv", "letters").json()["detail"]
    (folder / "no.parquet").write_bytes(b"PAR1 garbage PAR1")
    assert begin(client, "no.parquet").json()["detail"].startswith("no.parquet cannot be read")
    assert begin(client, "weather.csv", "nobody").status_code == 404
    assert begin(client, "weather.csv", nonsense=1).status_code == 422


def test_without_a_folder_there_are_no_corpora(serve_models, models_dir):
    with serve_models(models_dir) as client:
        reply = begin(client, "weather.csv")
        assert reply.status_code == 503
        assert "GATESCOPE_CORPORA_DIR" in reply.json()["detail"]
        assert client.get("/v1/corpora").status_code == 503


@pytest.fixture
def slow(monkeypatch, folder):
    """Of a data set of many parts, each takes long."""
    write_csv(folder / "many.csv", rows(200))
    monkeypatch.setattr(tracing, "BATCH_BYTES", 8000)
    read = tracing._Tracing._read

    def slowly(*args):
        time.sleep(0.05)
        return read(*args)

    monkeypatch.setattr(tracing._Tracing, "_read", slowly)
    return monkeypatch


def under_way(client, corpus_id):
    for _ in range(1000):
        if (client.get(f"/v1/corpora/{corpus_id}").json()["progress"] or 0) > 0.2:
            return
        time.sleep(0.02)
    raise TimeoutError


def test_a_corpus_that_is_traced_can_be_cancelled(client, slow):
    started = begin(client, "many.csv").json()
    under_way(client, started["corpus_id"])
    assert client.delete(f"/v1/jobs/{started['job_id']}").status_code == 204
    corpus = ended(client, started["corpus_id"])
    assert (corpus["state"], corpus["job_id"]) == ("cancelled", None)
    second = begin(client, "many.csv").json()["corpus_id"]
    under_way(client, second)
    assert client.delete(f"/v1/corpora/{second}").status_code == 204
    assert client.get(f"/v1/corpora/{second}").status_code == 404


def test_a_server_goes_on_with_what_the_last_one_began(models_dir, folder, slow, networks):
    with serving(models_dir, corpora_dir=folder) as client:
        corpus_id = begin(client, "many.csv").json()["corpus_id"]
        under_way(client, corpus_id)
    slow.undo()
    with serving(models_dir, corpora_dir=folder) as client:
        corpus = ended(client, corpus_id)
        assert corpus["state"] == "done", corpus
        assert_traced(reader(folder, corpus), networks["founding"].lstm, rows(200))


def wait_until(is_so):
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.01)
    raise TimeoutError


def wait_for(client):
    for _ in range(300):
        with contextlib.suppress(httpx.ConnectError):
            if client.get("/health/ready").status_code == 200:
                return
        time.sleep(0.1)
    raise TimeoutError


SLOW_SERVER = """
import sys, time
from gatescope.cli import main
from gatescope.server.api.corpora import tracing
from gatescope.zarr_store import writer

writer._LEAST_BLOCK = writer._MOST_BLOCK = 64
writer._CHECKPOINT_S = 0.0
tracing.BATCH_BYTES = 30_000
read = tracing._Tracing._read

def slowly(*args):
    time.sleep(0.05)
    return read(*args)

tracing._Tracing._read = slowly
sys.argv = ["gatescope", "serve", "--port", sys.argv[1]]
main()
"""
"""It reads 80 sequences of 20 steps in most of a second, in parts of which each fills a block or two."""


def test_a_server_goes_on_with_what_a_killed_one_began(models_dir, folder, networks, tmp_path):
    shutil.copytree(models_dir / "founding", tmp_path / "founding")
    values = np.random.default_rng(3).normal(size=(80, 20, 5)).astype(np.float32)
    np.save(folder / "large.npy", values)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"GATESCOPE_CORPORA_DIR": str(folder), "GATESCOPE_MODELS_DIR": str(tmp_path)}
    command = [sys.executable, "-c", SLOW_SERVER, str(port)]
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", **NO_TLS) as client,
    ):
        try:
            wait_for(client)
            corpus_id = begin(client, "large.npy").json()["corpus_id"]
            progress = folder / "corpora" / corpus_id / "trace.zarr" / "progress.json"
            while not (progress.exists() and json.loads(progress.read_text())["sequences"]):
                time.sleep(0.01)
        finally:
            process.kill()
    kept = json.loads(progress.read_text())["sequences"]
    assert 0 < kept < 80
    with serving(tmp_path, corpora_dir=folder) as client:
        corpus = ended(client, corpus_id)
    assert (corpus["state"], corpus["sequences"], corpus["steps"]) == ("done", 80, 1600)
    found = reader(folder, corpus)
    for index in (0, kept - 1, kept, kept + 1, 79):
        expected = trace(networks["founding"].lstm, torch.tensor(values[index]))
        np.testing.assert_allclose(found.record(index).signals["cell_state"], expected.cell_state[0], atol=1e-6)
        np.testing.assert_array_equal(found.record(index).inputs, values[index])


def test_what_would_be_too_large_fails(serve_models, models_dir, folder):
    with serve_models(models_dir, corpora_dir=folder, corpora_bytes=1000) as client:
        corpus = ended(client, begin(client, "weather.csv").json()["corpus_id"])
        assert "at most 1,000" in corpus["problem"]["detail"]


CSV, PARQUET, NPY, TEXT = "text/csv", "application/vnd.apache.parquet", "application/x-npy", "text/plain"


def upload(client, content, media_type, model="founding", **query):
    asked = {"model": model, "name": "sent", **query}
    asked = {name: value for name, value in asked.items() if value is not None}
    return client.post("/v1/corpora", params=asked, content=content, headers={"content-type": media_type})


def uploaded(client, content, media_type, model="founding", **query):
    reply = upload(client, content, media_type, model, **query)
    assert reply.status_code == 202, reply.text
    assert reply.headers["location"] == f"/v1/corpora/{reply.json()['corpus_id']}"
    corpus = ended(client, reply.json()["corpus_id"])
    assert (corpus["state"], corpus["source"], corpus["media_type"]) == ("done", None, media_type), corpus
    return corpus


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def kept(folder):
    """What the folder of corpora holds, hidden folders included."""
    return {path.name for path in (folder / "corpora").iterdir()}


def test_a_table_that_is_sent_is_traced(client, folder, networks, tmp_path):
    write_csv(tmp_path / "sent.csv", rows(12, seed=4))
    corpus = uploaded(client, (tmp_path / "sent.csv").read_bytes(), CSV, name="wet years", version="1")
    assert (corpus["name"], corpus["sequences"]) == ("wet years", 12)
    assert_traced(reader(folder, corpus), networks["founding"].lstm, rows(12, seed=4))
    assert client.delete(f"/v1/corpora/{corpus['corpus_id']}").status_code == 204
    assert corpus["corpus_id"] not in kept(folder)


def test_a_table_is_read_as_the_query_says(client, folder, networks):
    lines = ["site,day,a,b,c,d,five", "x,02/01/2001,1,2,3,4,5", "x,03/01/2001,1,2,3,,5", "y,04/01/2001,0,0,0,0,1"]
    asked = {"map": "e=five", "id": "site", "timestamps": "day", "fill": "d=0", "day_first": "true"}
    found = reader(folder, uploaded(client, "\n".join(lines).encode(), CSV, **asked))
    data = {"x": np.array([[1, 2, 3, 4, 5], [1, 2, 3, 0, 5]]), "y": np.array([[0, 0, 0, 0, 1]])}
    assert_traced(found, networks["founding"].lstm, data)
    assert str(found.record(1).timestamps[0])[:10] == "2001-01-04"


def test_parquet_arrays_and_texts_that_are_sent_are_traced(client, folder, networks, tmp_path):
    pd = pytest.importorskip("pandas")
    values = np.random.default_rng(6).normal(size=(4, 6, 5)).astype(np.float32)
    found = reader(folder, uploaded(client, npy(values), NPY))
    assert_traced(found, networks["founding"].lstm, {str(each): row for each, row in enumerate(values)})
    pd.read_csv(folder / "weather.csv").to_parquet(tmp_path / "sent.parquet")
    sent = (tmp_path / "sent.parquet").read_bytes()
    assert_traced(reader(folder, uploaded(client, sent, PARQUET)), networks["founding"].lstm, rows(30))
    found = reader(folder, uploaded(client, b"abc\n\ncab\n", TEXT, "letters"))
    assert (found.ids, found.record(1).tokens) == (["1", "3"], list("cab"))


FIVE = b"a,b,c,d,e\n1,2,3,4,5\n"
REFUSED = {
    "a feature is missing": (b"a,b,c,d\n1,2,3,4\n", CSV, {}, 422, "'e'"),
    "no number": (b"a,b,c,d,e\n1,2,3,4,five\n", CSV, {}, 422, "five"),
    "empty": (b"", CSV, {}, 422, "the upload"),
    "no Parquet": (b"PAR1 garbage PAR1", PARQUET, {}, 422, "cannot be read"),
    "no array": (b"\x93NUMPY\x01\x00garbage", NPY, {}, 422, ".npy"),
    "an object": (npy(np.array([{"a": 1}], dtype=object)), NPY, {}, 422, ".npy"),
    "too narrow": (npy(np.zeros((2, 3, 4))), NPY, {}, 422, "takes 5"),
    "too long": (npy(np.zeros((1, 100_001, 5), dtype=np.float32)), NPY, {}, 422, "sequence 0"),
    "no model": (FIVE, CSV, {"model": None}, 422, "query.model"),
    "another model": (FIVE, CSV, {"model": "nobody"}, 404, "nobody"),
    "no name": (FIVE, CSV, {"name": ""}, 422, "query.name"),
    "an unknown option": (FIVE, CSV, {"source": "x.csv"}, 422, "query.source"),
    "an id of an array": (npy(np.zeros((2, 3, 5))), NPY, {"id": "a"}, 422, "query.id"),
    "a mapping of an array": (npy(np.zeros((2, 3, 5))), NPY, {"map": "a=b"}, 422, "query.map"),
    "a mapping that is none": (FIVE, CSV, {"map": "nonsense"}, 422, "query.map"),
    "an unknown token": (b"abz\n", TEXT, {"model": "letters"}, 422, "z"),
    "a table for a model of tokens": (FIVE, CSV, {"model": "letters"}, 422, "reads tokens"),
    "another media type": (FIVE, "application/pdf", {}, 415, "text/csv"),
    "a form": (FIVE, "multipart/form-data; boundary=x", {}, 415, "text/csv"),
    "no media type": (FIVE, "", {}, 415, "text/csv"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_upload_that_is_refused_leaves_nothing(client, folder, what):
    content, media_type, query, status, message = REFUSED[what]
    before = kept(folder)
    reply = upload(client, content, media_type, **query)
    assert reply.status_code == status, reply.text
    assert message in reply.json()["detail"]
    assert str(folder) not in reply.text
    assert kept(folder) == before


def test_a_small_upload_that_holds_much_is_read_by_its_ids(client, folder):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file, before = io.BytesIO(), kept(folder)
    parquet.write_table(pa.table({name: np.zeros(1_700_000) for name in FEATURES}), file)
    assert file.tell() < 100_000
    reply = upload(client, file.getvalue(), PARQUET)
    assert (reply.status_code, reply.json()["errors"][0]["loc"]) == (422, ["query", "id"])
    assert "more than 64 MB" in reply.json()["detail"]
    assert kept(folder) == before


def test_an_upload_that_is_compressed_is_refused(client):
    headers = {"content-type": CSV, "content-encoding": "gzip"}
    reply = client.post("/v1/corpora", params={"model": "founding", "name": "x"}, content=FIVE, headers=headers)
    assert (reply.status_code, "Content-Encoding" in reply.json()["detail"]) == (415, True)


def test_uploads_are_bounded(models_dir, tmp_path):
    large = b"a,b,c,d,e\n" + b"1,2,3,4,5\n" * 2000
    with serving(models_dir, corpora_dir=tmp_path, max_body_bytes=1000, max_upload_bytes=30_000) as client:
        assert upload(client, large, CSV).status_code == 202  # an upload may be larger than other bodies
        for sent in (large * 2, iter([large, large])):  # with its length stated, and without
            reply = upload(client, sent, CSV)
            assert (reply.status_code, reply.json()["title"]) == (413, "BodyTooLarge")
    with serving(models_dir, corpora_dir=tmp_path / "small", corpora_bytes=10_000) as client:
        reply = upload(client, large, CSV)
        assert (reply.status_code, "delete some" in reply.json()["detail"]) == (503, True)
        assert not kept(tmp_path / "small")


def test_an_upload_that_breaks_off_leaves_nothing(client, folder):
    before, url = kept(folder), client.base_url
    with socket.create_connection((url.host, url.port)) as connection:
        head = "POST /v1/corpora?model=founding&name=x HTTP/1.1\r\ncontent-type: text/csv\r\n"
        connection.sendall(f"{head}host: {url.host}:{url.port}\r\ncontent-length: 100000\r\n\r\na,b,c,d,e\r\n".encode())
        wait_until(lambda: kept(folder) != before)
    wait_until(lambda: kept(folder) == before)


def test_a_server_goes_on_with_an_upload(models_dir, tmp_path, slow, networks):
    data = rows(200)
    write_csv(tmp_path / "sent.csv", data)
    with serving(models_dir, corpora_dir=tmp_path / "data") as client:
        started = upload(client, (tmp_path / "sent.csv").read_bytes(), CSV, id="basin", map="a=a")
        corpus_id = started.json()["corpus_id"]
        under_way(client, corpus_id)
    slow.undo()
    (tmp_path / "data" / "corpora" / ".upload-of-a-killed-server").mkdir()
    with serving(models_dir, corpora_dir=tmp_path / "data") as client:
        corpus = ended(client, corpus_id)
        assert corpus["state"] == "done", corpus
        assert_traced(reader(tmp_path / "data", corpus), networks["founding"].lstm, data)
        assert kept(tmp_path / "data") == {corpus_id}
