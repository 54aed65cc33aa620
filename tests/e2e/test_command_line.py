"""The command `gatescope`, started as a user starts it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from app.cli import main

ROOT = Path(__file__).parents[2]
GATESCOPE = Path(sys.executable).with_name("gatescope")


def gatescope(*arguments, **kwargs):
    return subprocess.run(
        [GATESCOPE, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60, **kwargs
    )


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: exit status, standard output, standard error."""
    monkeypatch.chdir(ROOT)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gatescope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


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
    lines += [",".join(["2000-01-01", *(repr(row[names.index(name)]) for name in shuffled)]) for row in rows]
    (tmp_path / "flow.csv").write_text("\n".join(lines))
    np.save(tmp_path / "flow.npy", np.array(rows))
    (tmp_path / "flow.json").write_text(json.dumps(rows))
    by_file = [
        answer("predict", "river", "--input", tmp_path / f"flow.{kind}")["prediction"]
        for kind in ("csv", "npy", "json")
    ]
    assert by_file[0] == by_file[1] == by_file[2]
    assert len(by_file[0]["values"][0]) == 30


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
        (["trace", "brackets", "--text", "x", "--out", "t.xlsx"], "not as '.xlsx'"),
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


def test_the_command_itself_ends_with_status_1_and_nothing_on_standard_output():
    result = gatescope("predict", "rivers", "--text", "x")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("gatescope: ModelNotFound")
