"""`gatescope intervene`, beside the API's own answer."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
TEXT = "((x)(x)"


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_an_edit_is_that_of_a_request(run, tmp_path):
    asked = ["intervene", "brackets", "--text", TEXT, "--set", "forget_gate=0.5", "--freeze", "cell_candidate"]
    asked += ["--unit", 0, "--unit", 3, "--start", 2, "--stop", -1, "--signal", "forget_gate"]
    status, out, err = run(*asked)
    assert status == 0, err
    reply = json.loads(out)
    gates = np.array(reply["intervened"]["signals"]["forget_gate"])[0, 0, 0]  # (time, unit)
    assert (gates[2:6, [0, 3]] == 0.5).all()
    before = np.array(reply["baseline"]["signals"]["forget_gate"])[0, 0, 0]
    np.testing.assert_allclose(gates[:2], before[:2], atol=1e-6)
    change = np.array(reply["difference"]["prediction"]["values"][0])
    assert np.abs(change[:2]).max() < 1e-5
    assert np.abs(change[2:]).max() > 0.01
    for suffix in (".safetensors", ".npz"):
        assert run(*asked, "--out", tmp_path / f"a{suffix}")[0] == 0
    tensors = load_file(tmp_path / "a.safetensors")
    np.testing.assert_allclose(tensors["difference.prediction.values"][0], change, atol=1e-6)
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["intervened.signals.forget_gate"], tensors["intervened.signals.forget_gate"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say what is edited"),
        (["--set", "forget_gate"], "write SIGNAL=NUMBER"),
        (["--set", "forget_gate=half"], "write SIGNAL=NUMBER"),
        (["--set", "forget_gate=0", "--scale", "forget_gate=2"], "several edits of forget_gate"),
        (["--mean", "forget_gat"], "did you mean 'forget_gate'?"),
        (["--mean", "forget_gate", "--out", "a.csv"], "not as '.csv'"),
    ],
)
def test_what_cannot_be_is_refused(run, options, message):
    status, _, err = run("intervene", "brackets", "--text", TEXT, *options)
    assert status == 1
    assert message in err
