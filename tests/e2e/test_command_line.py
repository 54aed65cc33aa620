"""The command `gatescope`, started as a user starts it."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from gatescope import plot
from gatescope.cli import table_files
from gatescope.errors import InvalidInput
from gatescope.tables.requests import read_body

INFO = {"name": "it", "state": "ready", "input": {"kind": "features", "feature_names": ["a"]}}

ROOT = Path(__file__).parents[2]
GATESCOPE = Path(sys.executable).with_name("gatescope")


def gatescope(*arguments, **kwargs):
    return subprocess.run(
        [GATESCOPE, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60, **kwargs
    )


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Where the shipped models are found."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def refusal(run):
    """What the command says when it refuses."""

    def refuse(*arguments):
        status, out, err = run(*arguments)
        assert (status, out) == (1, "")
        return err

    return refuse


@pytest.fixture
def answer(run):
    """The JSON that the command writes into a pipe."""

    def ask(*arguments):
        status, out, err = run(*arguments)
        assert status == 0, err
        return json.loads(out)

    return ask


def test_a_prediction_into_a_pipe_is_the_servers_json(shipped):
    said = json.loads(gatescope("predict", "pos-tagger", "--text", "I love China").stdout)
    assert said == shipped.post("/v1/models/pos-tagger/predict", json={"text": "I love China"}).json()


def test_a_running_server_answers_the_same(shipped, answer):
    here = answer("predict", "brackets", "--text", "(x)")
    there = answer("predict", "brackets", "--text", "(x)", "--url", shipped.base_url)
    assert here == there


def test_a_csv_is_read_by_its_column_names_an_array_as_it_is(tmp_path, shipped, answer):
    names = shipped.get("/v1/models/river").json()["input"]["feature_names"]
    request = shipped.get("/v1/models/river").json()["examples"][0]["request"]
    rows = request["inputs"][0][:30]
    shuffled = list(reversed(names))
    lines = [",".join(["date", *shuffled])]
    lines += [
        ",".join([f"2000-01-{day + 1:02}", *(repr(row[names.index(name)]) for name in shuffled)])
        for day, row in enumerate(rows)
    ]
    (tmp_path / "flow.csv").write_text("\n".join(lines))
    np.save(tmp_path / "flow.npy", np.array(rows))
    (tmp_path / "flow.json").write_text(json.dumps(rows))
    by_file = [
        answer("predict", "river", "--input", tmp_path / f"flow.{kind}")["prediction"]["values"]
        for kind in ("csv", "npy", "json")
    ]
    assert by_file[0] == by_file[1] == by_file[2]
    assert len(by_file[0][0]) == 30


def test_a_trace_is_written_as_safetensors_npz_netcdf_and_a_picture(tmp_path, run, answer):
    import xarray  # noqa: PLC0415

    reply = answer("trace", "brackets", "--text", "((x))")
    for kind in ("safetensors", "npz", "nc"):
        files = ("--out", tmp_path / f"t.{kind}", "--plot", tmp_path / "t.png")
        status, out, err = run("trace", "brackets", "--text", "((x))", *files)
        assert (status, out) == (0, ""), err
    cell_state = np.float32(reply["signals"]["cell_state"])
    np.testing.assert_array_equal(load_file(tmp_path / "t.safetensors")["cell_state"], cell_state)
    with np.load(tmp_path / "t.npz") as arrays, xarray.open_dataset(tmp_path / "t.nc") as dataset:
        np.testing.assert_array_equal(arrays["cell_state"], cell_state)
        np.testing.assert_array_equal(dataset.cell_state, cell_state)
        assert dataset.cell_state.dims == ("batch", "layer", "direction", "time", "unit")
        assert list(dataset.direction.values) == ["forward"]
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "rivers", "--text", "x"], "did you mean 'river'?"),
        (["predict", "brackets"], "give either --input FILE or --text TEXT"),
        (["predict", "brackets", "--text", "abc"], "character 'a' at position 0"),
        (["predict", "river", "--input", "missing.csv"], "missing.csv cannot be read"),
        (["predict", "river", "--input", "README.md"], "files end in .csv"),
        (["predict", "brackets", "--text", "\udcff"], "--text is not valid UTF-8"),
        (["trace", "brackets", "--text", "x", "--out", "t.xlsx"], "not as '.xlsx'"),
        (["trace", "brackets", "--text", "x", "--plot", "t.gif"], "not as '.gif'"),
        (["trace", "brackets", "--text", "x", "--out", "no/t.npz"], "--out no/t.npz: there is no folder 'no'"),
        (["trace", "brackets", "--text", "x", "--plot", "no/t.png"], "--plot no/t.png: there is no folder 'no'"),
        (["predict", "brackets", "--text", "x", "--models", "nowhere"], "'nowhere' does not exist"),
        (["predict", "brackets", "--text", "x", "--url", "http://a:b"], "--url http://a:b: Invalid port"),
        (["predict", "brackets", "--text", "x", "--url", "here:80"], "--url here:80: the URL of a server begins with"),
        (["predict", "\udcff?#", "--text", "x"], "ModelNotFound: there is no model"),
        (["predict", "brackets", "--text", "x", "--url", "http://127.0.0.1:9"], "no answer from"),
    ],
)
def test_an_error_is_one_line_and_exit_status_1(arguments, message, refusal):
    line = refusal(*arguments)
    assert message in line
    assert len(line.strip().splitlines()) == 1


def test_a_csv_with_a_wrong_cell_names_line_and_column(tmp_path, refusal):
    (tmp_path / "bad.csv").write_text("1,2,3,4,5,6,1022500\n1,2,three,4,5,6,1022500\n")
    line = refusal("predict", "river", "--input", tmp_path / "bad.csv")
    assert "bad.csv, line 2, column 'tmax_c': 'three' is not a number" in line


def test_of_a_broken_manifest_the_one_error_is_told(tmp_path, run, model_folder):
    folder = model_folder("mine")
    folder.edit('name = "a"', 'nam = "a"')
    (tmp_path / "rows.csv").write_text("a,b,c\n1,2,3\n")
    status, out, err = run("predict", "mine", "--models", folder.models_dir, "--input", tmp_path / "rows.csv")
    (said,) = [line for line in err.splitlines() if line.startswith("gatescope: ")]
    assert (status, out) == (1, "")
    assert "model 'mine' is unavailable: mine/model.toml: input.features.features.0.name: Field required" in said
    assert "token" not in err


@pytest.mark.parametrize("kind", ["csv", "npy", "json"])
def test_a_number_that_is_none_is_refused_at_its_place(tmp_path, refusal, kind):
    row = [1, 2, 3, 4, 5, 6, 1022500]
    rows = [row, [1, 2, float("nan"), *row[3:]]]
    (tmp_path / "bad.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    (tmp_path / "bad.json").write_text(json.dumps(rows))
    np.save(tmp_path / "bad.npy", rows)
    line = refusal("predict", "river", "--input", tmp_path / f"bad.{kind}")
    assert re.search(r"line 2, column 'tmax_c'" if kind == "csv" else r"body\.inputs\.(0\.)?1\.2: ", line)
    assert len(line.splitlines()) == 1


def test_tokens_in_a_csv_stand_an_id_a_line(tmp_path, answer):
    (tmp_path / "ids.csv").write_text("0\n\n2.0\n1\n")
    assert answer("predict", "brackets", "--input", tmp_path / "ids.csv")["tokens"] == [["(", "x", ")"]]


@pytest.mark.parametrize("cell", ["nan", "1.7", "inf", "x", "1,2"])
def test_what_is_no_token_is_refused_with_its_line(tmp_path, refusal, cell):
    (tmp_path / "ids.csv").write_text(f"0\n\n{cell}\n")
    line = refusal("predict", "brackets", "--input", tmp_path / "ids.csv")
    assert "ids.csv, line 3" in line
    assert ("column 'id'" in line) == ("," not in cell)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([True]), np.zeros(0, "datetime64[s]")])
def test_an_array_of_something_else_is_refused(tmp_path, array):
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(InvalidInput, match=f"is no .npy array of numbers: it holds {re.escape(str(array.dtype))}"):
        read_body(tmp_path / "bad.npy", INFO)


@pytest.mark.parametrize(
    ("name", "content"),
    [("deep.json", "[" * 100_000), ("zero.npy", ""), ("nul.csv", '"a' * 100_000), ("latin.csv", b"\xe9")],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInput, match=name):
        read_body(tmp_path / name, INFO)


def test_dollars_are_no_formula_in_a_picture(tmp_path):
    values = [[[[[0.5], [0.25]]]]]
    reply = {
        "model": {"name": "$a$_^", "version": "1"},
        "layers": [0],
        "directions": ["forward"],
        "units": [0],
        "time_steps": [0, 1],
        "sequence_lengths": [2],
        "tokens": [["$\\frac$", "$_$"]],
        "signals": {"input_gate": values},
        "residual": 0.0,
    }
    plot.save(reply, {}, tmp_path / "t.svg")
    assert (tmp_path / "t.svg").stat().st_size


def test_the_version_is_that_of_the_package(run):
    assert run("--version") == (0, f"gatescope {version('gatescope')}\n", "")


def test_the_command_itself_ends_with_status_1_and_nothing_on_standard_output():
    result = gatescope("predict", "rivers", "--text", "x")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("gatescope: ModelNotFound")


@pytest.mark.parametrize("command", ["predict", "trace"])
def test_that_predictions_are_not_verified_is_said_on_standard_error(run, model_folder, command, tmp_path):
    folder = model_folder("mine")
    (tmp_path / "rows.json").write_text(json.dumps([[1.0, 2.0, 3.0]]))
    asked = (command, "mine", "--models", folder.models_dir, "--input", tmp_path / "rows.json")
    status, out, err = run(*asked)
    assert (status, json.loads(out)["model"]["verified"]) == (0, False)
    assert "the predictions of 'mine' are not verified" in err
    assert "--sample" in err
    inputs = torch.tensor([[[1.0, 2.0, 3.0]]])
    expected = folder.module((inputs - torch.tensor([1.0, 0, 0])) / torch.tensor([2.0, 1, 1])).tolist()
    sample = {"request": {"inputs": inputs.tolist()}, "expected": expected}
    (folder.path / "1" / "sample.json").write_text(json.dumps(sample))
    status, out, err = run(*asked)
    assert (status, json.loads(out)["model"]) == (0, {"name": "mine", "version": "1"})
    assert "not verified" not in err


WRITING = ("predict", "shakespeare", "--text", "ROMEO:", "--horizon", 30, "--temperature", 0.9, "--seed", 4)


def test_flags_say_how_tokens_are_drawn(answer, shipped):
    said = answer(*WRITING, "--top-k", 12, "--top-p", 0.9, "--samples", 2, "--stop", "e", "--stop", "\n")
    sampling = {"temperature": 0.9, "top_k": 12, "top_p": 0.9, "seed": 4, "samples": 2, "stop": ["e", "\n"]}
    body = {"text": "ROMEO:", "horizon": 30, "sampling": sampling}
    assert said == shipped.post("/v1/models/shakespeare/predict", json=body).json()
    assert "sampling" in answer("predict", "shakespeare", "--text", "A", "--horizon", 1)
    assert "sampling" not in answer("predict", "pos-tagger", "--text", "I love China")


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_text_may_be_written_as_it_comes(run, answer, shipped, is_remote):
    where = ("--url", shipped.base_url) if is_remote else ()
    status, out, _ = run(*WRITING, "--stream", *where)
    assert (status, out) == (0, answer(*WRITING)["prediction"]["text"][0] + "\n")


def test_wrong_flags_are_refused_with_the_place(refusal):
    assert "body.sampling.stop.0: '☃' is not in the model's vocabulary" in refusal(*WRITING, "--stop", "☃")
    assert "leave --samples out" in refusal(*WRITING, "--stream", "--samples", 2)
    assert "give a 'horizon'" in refusal("predict", "shakespeare", "--text", "A", "--stream")
    assert "body.sampling: model 'pos-tagger' draws no tokens" in refusal(
        "predict", "pos-tagger", "--text", "I love China", "--seed", 1
    )


def test_a_table_of_many_sequences_is_asked_for_in_parts(run, tmp_path, monkeypatch):
    rows = (ROOT / "models/river/examples/winter.csv").read_text().splitlines()
    lines = [f"basin,{rows[0]}"]
    lines += [f"{basin},{row}" for basin in ("a", "b", "c", "d", "e") for row in rows[1 : 8 + ord(basin)]]
    (tmp_path / "all.csv").write_text("\n".join(lines))
    asked = ["predict", "river", "--input", tmp_path / "all.csv", "--id", "basin", "--out"]
    whole = run(*asked, tmp_path / "whole.csv")
    monkeypatch.setattr(table_files, "LOCAL_STEPS", 60)
    parts = run(*asked, tmp_path / "parts.csv")
    assert (whole[0], parts[0]) == (0, 0), parts[2]
    first, second = (
        [line.split(",") for line in (tmp_path / name).read_text().split()] for name in ("whole.csv", "parts.csv")
    )
    assert [row[:2] for row in first] == [row[:2] for row in second]
    values = [np.array([row[2] for row in each[1:]], dtype=float) for each in (first, second)]
    np.testing.assert_allclose(*values, rtol=1e-5)
    assert parts[2].count("note: ") == 1
    assert "the model needs 183 time steps to warm up" in parts[2]
