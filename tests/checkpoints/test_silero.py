"""A real checkpoint: the voice activity detector `silero-vad` (MIT), convolutions around an LSTM cell of 128 units."""

from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gatescope.checkpoints.report import report


@pytest.fixture(scope="module")
def silero():
    """Found without importing the package, which would want what it takes to run it."""
    return Path(str(distribution("silero-vad").locate_file("silero_vad/data/silero_vad_16k.safetensors")))


def test_it_is_inspected(silero):
    found = report(silero)
    assert found["lstms"] == [
        {
            "path": "lstm_cell",
            "kind": "nn.LSTMCell",
            "input_size": 128,
            "hidden_size": 128,
            "num_layers": 1,
            "bias": True,
            "bidirectional": False,
            "proj_size": 0,
        }
    ]
    assert {part["path"]: part["kind"] for part in found["others"]} == dict.fromkeys(
        ("stft_conv", "conv1", "conv2", "conv3", "conv4"), "nn.Conv1d"
    )
    (head,) = found["linear_layers"]
    assert (head["path"], head["in_features"], head["out_features"]) == ("final_conv", 128, 1)
    assert found["embeddings"] == []
    assert found["import"]["layers"] == [{"name": "lstm_cell", "type": "lstm"}]
    assert {each["name"] for each in found["import"]["not_computed"]} >= {"stft_conv", "conv1"}
    assert found["parameters"] == 309_633


def test_its_lstm_is_served_as_the_cell_computes_and_traced_as_the_equations_do(silero, bring, random):
    weights = load_file(silero)
    own = {name.removeprefix("lstm_cell."): value for name, value in weights.items() if name.startswith("lstm_cell.")}
    cell, lstm = nn.LSTMCell(128, 128), nn.LSTM(128, 128)
    cell.load_state_dict(own)
    lstm.load_state_dict({f"{name}_l0": value for name, value in own.items()})
    frames = torch.randn(50, 128, generator=random).relu()  # the encoder ends in a ReLU
    brought = bring(silero)
    brought.traces({"lstm_cell": lstm}, frames)
    state, hidden = None, []
    with torch.no_grad():
        for frame in frames:
            state = cell(frame[None], state)
            hidden.append(state[0][0])
    torch.testing.assert_close(brought.ask([frames], output=True).output[0], torch.stack(hidden), rtol=0, atol=1e-5)
    assert brought.manifest.heads == ()
    assert brought.manifest.input.names[0] == "lstm_input_0"
    assert "Not computed before the LSTM" in brought.notes
    assert "'stft_conv'" in brought.notes
