"""Data sets that are sent, or named, and what became of them."""

import time

import numpy as np
import pytest
from safetensors.torch import save_file
from torch import nn

from gatescope.client import Client
from gatescope.errors import CorpusNotFound, InvalidInput
from tests.serving import serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def client(folder, tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    (models / "founding" / "1").mkdir(parents=True)
    features = ", ".join(f'{{name = "{name}"}}' for name in "abcde")
    manifest = f'description = "five"\n[input]\nkind = "features"\nfeatures = [{features}]\n'
    (models / "founding" / "model.toml").write_text(manifest)
    weights = {f"lstm.{name}": value for name, value in nn.LSTM(5, 3).state_dict().items()}
    save_file(weights, models / "founding" / "1" / "model.safetensors")
    with serving(models, corpora_dir=folder) as server, Client(str(server.base_url)) as client:
        yield client


def ended(client, corpus_id):
    for _ in range(1000):
        if (corpus := client.corpus(corpus_id))["state"] not in {"queued", "running"}:
            return corpus
        time.sleep(0.01)
    raise TimeoutError


def test_a_file_is_sent_and_traced(client, tmp_path):
    (tmp_path / "sent.csv").write_text("site,a,b,c,d,five\nx,1,2,3,,5\ny,0,0,0,0,1\n")
    read = {"id": "site", "map": "e=five", "fill": "d=0", "day_first": True, "version": "1"}
    corpus = ended(client, client.upload_corpus("founding", "sent", tmp_path / "sent.csv", **read)["corpus_id"])
    assert (corpus["state"], corpus["sequences"], corpus["media_type"]) == ("done", 2, "text/csv")
    assert corpus in client.corpora()
    client.delete_corpus(corpus["corpus_id"])
    with pytest.raises(CorpusNotFound):
        client.corpus(corpus["corpus_id"])


def test_a_file_on_the_server_is_traced(client, folder):
    np.save(folder / "values.npy", np.zeros((2, 3, 5)))
    corpus = ended(client, client.begin_corpus("founding", "there", "values.npy")["corpus_id"])
    assert (corpus["state"], corpus["source"]) == ("done", "values.npy")


def test_what_is_no_data_set_of_the_model_is_refused(client, tmp_path):
    for name in ("nothing.csv", "model.pt"):
        with pytest.raises(InvalidInput, match=name):
            client.upload_corpus("founding", "sent", tmp_path / name)
    np.save(tmp_path / "values.npy", np.zeros((2, 3, 5)))
    with pytest.raises(InvalidInput, match=r"query\.id"):
        client.upload_corpus("founding", "sent", tmp_path / "values.npy", id="site")
