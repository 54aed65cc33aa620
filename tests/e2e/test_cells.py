"""Models around `nn.GRU` and `nn.RNN`, by the command and the stock client of the Open Inference Protocol."""

import csv
import json

import numpy as np
import pytest
import tritonclient.http as stock

from tests.server.api import recurrent
from tests.server.api.recurrent import equations, fed

ROWS = np.random.default_rng(12).normal(0, 1, (9, 3)).astype(np.float32).tolist()
ATOL = 5e-6


@pytest.fixture(scope="module")
def made():
    return recurrent.made()


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    root = tmp_path_factory.mktemp("recurrent")
    recurrent.write(root, made)
    return root


@pytest.fixture(scope="module")
def served(folder, serve_models):
    with serve_models(folder) as client:
        yield client


def test_a_trace_is_written_with_the_signals_of_the_cell(run, folder, made, tmp_path):
    table = tmp_path / "rows.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "c"], *ROWS])
    for name in ("gru", "relu"):
        out = tmp_path / f"{name}.npz"
        status, _, said = run("trace", name, "--models", folder, "--input", table, "--out", out)
        assert status == 0, said
        expected, arrays = equations(made[name].module, fed(ROWS)), np.load(out)
        for signal in recurrent.SIGNALS[made[name].cell]:
            np.testing.assert_allclose(arrays[signal][0], expected[signal], atol=ATOL)
    status, said, _ = run("predict", "tanh", "--models", folder, "--input", table)
    assert status == 0
    np.testing.assert_allclose(json.loads(said)["prediction"]["values"][0], made["tanh"].run(ROWS)[0], atol=ATOL)


def test_the_stock_client_takes_states_and_signals(served, made):
    client = stock.InferenceServerClient(served.base_url.netloc.decode())
    state = np.random.default_rng(3).normal(0, 1, (1, 2, 5)).astype(np.float32)
    given = {"inputs": np.array([ROWS], np.float32), "initial_hidden_state": state}
    inputs = []
    for name, values in given.items():
        inputs.append(stock.InferInput(name, list(values.shape), "FP32"))
        inputs[-1].set_data_from_numpy(values)
    names = ["prediction", "final_hidden_state", "reset_gate", "recurrent_candidate"]
    said = client.infer("gru", inputs, outputs=[stock.InferRequestedOutput(name) for name in names])
    expected = equations(made["gru"].module, fed(ROWS), state[0])
    for name in names[2:]:
        np.testing.assert_allclose(said.as_numpy(name)[0], expected[name], atol=ATOL)
    np.testing.assert_allclose(said.as_numpy("final_hidden_state")[0], expected["hidden_state"][:, 0, -1], atol=ATOL)
    client.close()
