import json

import numpy as np
import pytest
import torch
from torch import nn

from gatescope import analyse, trace
from gatescope.analysis.registry import analyses
from gatescope.errors import AnalysisNotFound, InvalidInput


@pytest.fixture
def lstm_trace():
    return trace(nn.LSTM(2, 3), torch.zeros(4, 2))


def test_every_analysis_describes_itself():
    for name, analysis in analyses().items():
        described = json.loads(json.dumps(analysis.described()))
        assert described["name"] == name
        assert described["question"].endswith("?")
        assert described["arrays"]
        for field in described["parameters"].get("properties", {}).values():
            assert field["description"]


def test_an_unknown_analysis_is_refused_with_the_nearest(lstm_trace):
    with pytest.raises(AnalysisNotFound, match="did you mean 'timescales'"):
        analyse(lstm_trace, "timescale")


def test_an_unknown_parameter_is_refused_by_name(lstm_trace):
    with pytest.raises(InvalidInput, match="'saturation' has no parameter 'lefft'; did you mean 'left'"):
        analyse(lstm_trace, "saturation", lefft=0.2)


def test_a_parameter_out_of_bounds_is_refused(lstm_trace):
    with pytest.raises(InvalidInput, match="left: Input should be less than or equal to 1"):
        analyse(lstm_trace, "saturation", left=2)


def test_a_cell_without_the_mathematics_is_refused():
    with pytest.raises(InvalidInput, match="no mathematics for the cell 'rnn'; it is for lstm, gru"):
        analyse(trace(nn.RNN(2, 3), torch.zeros(4, 2)), "timescales")


def test_a_result_is_a_dataset(lstm_trace):
    dataset = analyse(lstm_trace, "saturation").to_xarray()
    assert dataset["left"].dims == ("signal", "layer", "direction", "unit")
    assert dataset["left"].sel(signal="forget_gate", direction="forward").shape == (1, 3)
    assert dataset.attrs["left"] == 0.1
    assert np.isnan(dataset["left"].sel(signal="cell_state")).all()
