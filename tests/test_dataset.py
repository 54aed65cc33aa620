"""A trace as a dataset says of each signal what the model says of it."""

import io
import json

import numpy as np

from gatescope import dataset


def test_a_projected_hidden_state_is_unbounded_and_has_units_of_its_own():
    described = {
        "model": {"name": "m", "version": "1"},
        "axes": ["batch", "layer", "direction", "time", "unit"],
        "layers": [0],
        "directions": ["forward"],
        "units": [0, 1, 2],
        "time_steps": [0],
        "residual": 0.0,
    }
    file = io.BytesIO()
    arrays = {"hidden_state": np.full((1, 1, 1, 1, 2), 7.4), "cell_state": np.ones((1, 1, 1, 1, 3))}
    np.savez(file, metadata=np.array(json.dumps(described)), sequence_lengths=np.array([1]), **arrays)
    signals = [
        {"name": name, "symbol": name[0], "low": None, "high": None, "description": "said"}
        for name in ("cell_state", "hidden_state")
    ]
    traced = dataset.from_npz(file.getvalue(), {"signals": signals})
    assert traced.hidden_state.attrs == {"range": "unbounded", "symbol": "h", "description": "said"}
    assert traced.hidden_state.dims[-1] == "projected_unit"
    assert traced.cell_state.dims[-1] == "unit"
