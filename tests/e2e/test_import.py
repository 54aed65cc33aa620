"""`gatescope inspect` and `gatescope import`, as a user has them: from a checkpoint to an answer."""

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from gatescope.checkpoints.report import report
from gatescope.cli import terminal


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.lstm = nn.LSTM(3, 4, 2)
        self.fc = nn.Linear(4, 2)
        self.extra = nn.Conv2d(3, 4, 5)

    def forward(self, ids):
        return self.fc(self.lstm(self.embed(ids))[0])


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A training script's working directory."""
    monkeypatch.chdir(tmp_path)
    module = Tagger().eval()
    torch.save({"model_state_dict": module.state_dict(), "epoch": 3}, "last.ckpt")
    return module


@pytest.fixture
def imported(run):
    def run_import(*arguments):
        status, out, err = run("import", *arguments)
        assert (status, err) == (0, "")
        return out

    return run_import


def test_inspect_into_a_pipe_is_json(trained, run):
    status, out, err = run("inspect", "last.ckpt")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["lstms"][0]["num_layers"] == 2
    assert found["embeddings"] == [{"path": "embed", "num_embeddings": 7, "embedding_dim": 3}]
    assert found["linear_layers"] == [{"path": "fc", "in_features": 4, "out_features": 2, "bias": True}]
    assert [(part["path"], part["kind"], part["reason"]) for part in found["others"]] == [
        ("extra", "an nn.Conv2d", None)
    ]
    assert found["others"][0]["shapes"]["weight"] == [4, 3, 5, 5]
    assert [layer["name"] for layer in found["import"]["layers"]] == ["embed", "lstm"]
    assert [part["name"] for part in found["import"]["not_computed"]] == ["extra"]
    assert run("inspect", "last.ckpt", "--json")[1] == out
    assert list(Path().iterdir()) == [Path("last.ckpt")]


def test_inspect_on_a_terminal_is_a_table(trained):
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(terminal.checkpoint(report(Path("last.ckpt"))))
    drawn = console.export_text()
    for said in (
        "nn.LSTM",
        "input_size=3, hidden_size=4, num_layers=2",
        "nn.Embedding",
        "an nn.Conv2d",
        "weight=[4, 3, 5, 5]",
        "No prediction: 'extra'",
    ):
        assert said in drawn


def test_what_cannot_be_imported_as_it_is_is_still_inspected(trained, run):
    torch.save({"a": nn.LSTM(3, 4), "b": nn.LSTM(3, 5)}["a"].state_dict(), "one.pt")
    torch.save(nn.ModuleDict({"a": nn.LSTM(3, 4), "b": nn.LSTM(3, 5)}).state_dict(), "two.pt")
    found = json.loads(run("inspect", "two.pt")[1])
    assert [lstm["path"] for lstm in found["lstms"]] == ["a", "b"]
    assert "name the one to serve" in found["import"]["refused"]
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(terminal.checkpoint(found))
    assert "It cannot be imported as it is: prefix: " in console.export_text()


def test_the_commands_that_an_import_prints_give_the_models_answer(trained, imported, run):
    flags = ("--head", "fc", "--task", "tagging", "--labels", "a, b", "--ignore", "extra")
    out = imported("last.ckpt", "--name", "mine", *flags)
    predict, curl = (shlex.split(line) for line in out.splitlines()[-2:])
    assert "- Layers: embed,lstm,fc (" in out
    assert "NOT VERIFIED" in out
    status, reply, err = run(*predict[1:])
    assert status == 0, err
    request = json.loads(curl[curl.index("-d") + 1])
    expected = trained(torch.tensor(request["inputs"][0])).detach()
    torch.testing.assert_close(torch.tensor(json.loads(reply)["prediction"]["values"][0]), expected, rtol=0, atol=1e-5)
    command = [Path(sys.executable).with_name("gatescope"), "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = next(line for line in process.stderr if line.startswith("Gatescope serves"))
            url = re.search(r"http://[\d.:]+", line)[0]
            path = next(word for word in curl if word.startswith("http")).split("/", 3)[3]
            served = httpx.post(f"{url}/{path}", json=request).json()
            assert served["prediction"] == json.loads(reply)["prediction"]
        finally:
            process.terminate()
            process.communicate()


def test_a_second_import_prints_what_asks_the_new_version(trained, imported, run):
    imported("last.ckpt", "--name", "mine", "--head", "none", "--models", "elsewhere")
    out = imported("last.ckpt", "--name", "mine", "--models", "elsewhere")
    assert out.startswith("version 2 of 'mine' is in elsewhere/mine\n")
    assert "/v1/models/mine/versions/2/predict" in out
    predict = next(shlex.split(line) for line in out.splitlines() if line.startswith("  gatescope predict"))
    assert json.loads(run(*predict[1:])[1])["model"] == {"name": "mine", "version": "2"}


def test_a_long_request_is_posted_from_its_file(trained, imported):
    torch.save(nn.LSTM(40, 3).state_dict(), "wide.pt")
    assert "-d @models/wide/examples/random.json" in imported("wide.pt", "--name", "wide")


def test_a_model_of_text_is_asked_with_a_text(trained, imported, run):
    torch.save(nn.ModuleDict({"lstm": nn.LSTM(3, 4), "fc": nn.Linear(4, 3)}).state_dict(), "letters.pt")
    out = imported("letters.pt", "--name", "letters", "--characters", "a'\n")
    predict = re.search(r"^  (gatescope predict .*?)^  curl ", out, re.MULTILINE | re.DOTALL)[1]
    status, reply, _ = run(*shlex.split(predict)[1:])
    assert (status, len(json.loads(reply)["tokens"][0])) == (0, 6)


@pytest.mark.parametrize("content", ["<unk>\nsun\nrain\n", "\ufeff<unk>\r\nsun\r\nrain"])
def test_a_vocabulary_is_a_file_of_lines(trained, imported, content):
    torch.save(nn.ModuleDict({"emb": nn.Embedding(3, 4), "lstm": nn.LSTM(4, 5)}).state_dict(), "words.pt")
    Path("words.txt").write_bytes(content.encode())
    imported("words.pt", "--name", "words", "--vocabulary", "words.txt")
    assert Path("models/words/vocabulary.txt").read_text() == "<unk>\nsun\nrain\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["last.ckpt", "--name", "../up"], "--name: must be letters, digits"),
        (
            ["last.ckpt", "--name", "mine", "--task", "tagging"],
            "--task: is about a prediction, but there is none: No prediction: 'extra'",
        ),
        (["last.ckpt", "--name", "a b", "--version", "c/d"], "--name: .*; --version: "),
        (["missing.pt", "--name", "mine"], "missing.pt: it cannot be read: No such file"),
        (
            ["last.ckpt", "--name", "mine", "--vocabulary", "none.txt"],
            "--vocabulary: none.txt: cannot be read: No such file",
        ),
        (["last.ckpt", "--name", "mine", "--vocabulary", "last.ckpt"], "--vocabulary: last.ckpt: is a pickle"),
        (["last.ckpt", "--name", "mine", "--models", "no/such/place"], "no/such/place: No such file"),
        (["last.ckpt", "--name", "mine", "--sample", "none.npz"], "none.npz: No such file"),
        (["last.ckpt", "--name", "mine", "--sample", "last.ckpt"], "--sample: last.ckpt has "),
        (["last.ckpt", "--name", "mine", "--scaler", "last.ckpt"], "--scaler: last.ckpt: is a pickle"),
        (["last.ckpt", "--name", "mine", "--layers", "embed,lstm,nothing"], "--layers: 'nothing' is neither a layer"),
    ],
)
def test_what_is_refused_is_one_line_and_nothing_is_written(trained, run, arguments, message):
    status, out, err = run("import", *arguments)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert re.match(f"gatescope: {message}", err)
    assert list(Path().iterdir()) == [Path("last.ckpt")]


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 5, batch_first=True)
        self.fc = nn.Linear(5, 1)

    def forward(self, inputs):
        return self.fc(self.lstm(inputs)[0].sum(dim=1))


def sample_of(module: nn.Module, inputs: torch.Tensor, file: str) -> None:
    with torch.no_grad():
        np.savez(file, inputs=inputs, expected=module(inputs))


def test_a_sample_verifies_the_predictions(imported, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module, inputs = Forecaster().eval(), torch.randn(8, 6, 2)
    with torch.no_grad():
        module.fc.bias.sub_(0.45)  # predictions of both signs
    torch.save(module.state_dict(), "level.pt")
    sample_of(module, inputs, "sample.npz")
    out = imported("level.pt", "--name", "level", "--sample", "sample.npz")
    assert "- Verified: lstm,sum,fc gives what the sample expects" in out
    assert "NOT VERIFIED" not in out
    predict = next(shlex.split(line) for line in out.splitlines() if line.startswith("  gatescope predict"))
    status, reply, err = run(*predict[1:])
    assert (status, err) == (0, "")
    values = torch.tensor(json.loads(reply)["prediction"]["values"])
    torch.testing.assert_close(values, module(inputs).detach(), rtol=0, atol=1e-5)
    models = json.loads(run("list")[1])["models"]
    assert [(model["name"], model["verified"]["by"]) for model in models] == [("level", "sample")]


def test_an_ambiguous_sample_is_refused_with_inputs_that_tell(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = Forecaster().eval()
    with torch.no_grad():
        module.fc.bias.fill_(1.0)  # all predictions of small inputs are positive: there may be a relu behind them
    torch.save(module.state_dict(), "level.pt")
    sample_of(module, torch.randn(3, 4, 2) / 10, "sample.npz")
    status, out, err = run("import", "level.pt", "--name", "level", "--sample", "sample.npz")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "lstm,sum,fc; lstm,sum,fc,relu" in err
    assert not Path("models").exists()
    inputs = torch.from_numpy(np.load("level-inputs.npz")["inputs"]).float()
    sample_of(module, inputs, "telling.npz")
    assert run("import", "level.pt", "--name", "level", "--sample", "telling.npz")[0] == 0


def test_force_replaces_a_model(imported, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(nn.LSTM(2, 3).state_dict(), "first.pt")
    torch.save(nn.LSTM(4, 3).state_dict(), "second.pt")
    imported("first.pt", "--name", "mine")
    imported("first.pt", "--name", "mine")
    status, _, err = run("import", "second.pt", "--name", "mine")
    assert (status, err.count("\n")) == (1, 1)
    assert imported("second.pt", "--name", "mine", "--force").startswith("version 1 of 'mine'")
    assert [path.name for path in sorted(Path("models").iterdir())] == ["mine"]
    assert not Path("models/mine/2").exists()
    assert json.loads(run("list")[1])["models"][0]["lstm"]["input_size"] == 4


def test_a_checkpoint_that_cannot_be_read_is_not_inspected(trained, run):
    Path("bad.pt").write_bytes(b"nonsense")
    status, out, err = run("inspect", "bad.pt")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("gatescope: bad.pt: ")
