import numpy as np
import pytest
import torch
from torch import nn

from gatescope import analyse, trace
from gatescope.analysis import ridge
from gatescope.errors import InvalidInput


def test_ridge_is_that_of_the_normal_equations():
    generator = np.random.default_rng(0)
    features, target = generator.standard_normal((80, 3)) * [1, 5, 0.2] + 4, generator.standard_normal(80)
    found = ridge._predict(features, target, np.arange(60), np.arange(60, 80), [0.1])[0]
    mean, deviation = features[:60].mean(0), features[:60].std(0)
    x = (features - mean) / deviation
    y = target[:60] - target[:60].mean()
    weights = np.linalg.solve(x[:60].T @ x[:60] + 0.1 * 60 * np.eye(3), x[:60].T @ y)
    np.testing.assert_allclose(found, x[60:] @ weights + target[:60].mean())


def test_blocks_are_apart_by_the_gap():
    for block in ridge.blocks(np.arange(100), 5, 7):
        assert len(block.test) == 20
        assert np.abs(block.train[:, None] - block.test).min() == 8
        assert not set(block.train) & set(block.test)


def counter():
    """A unit whose cell state sums up sign(x), by hand, beside units of noise."""
    torch.manual_seed(0)
    module = nn.LSTM(1, 6)
    with torch.no_grad():
        for weight in module.parameters():
            weight.view(4, 6, -1)[:, 2] = 0
        module.bias_ih_l0.view(4, 6)[:2, 2] = 20  # i = f = 1
        module.weight_ih_l0.view(4, 6)[2, 2] = 20  # g = sign(x)
    return module


def test_a_count_is_found_above_all_controls():
    generator = torch.Generator().manual_seed(4)
    signs = torch.randint(0, 2, (900, 1), generator=generator) * 2.0 - 1
    count = signs[:, 0].cumsum(0).tolist()
    found = analyse(trace(counter(), signs), "probe", series=[{"name": "count", "values": count}])
    assert found["r2"][0] > 0.9
    assert found["r2"][0] > max(found[name][0] for name in ("r2_inputs", "r2_untrained", "r2_shifted"))
    assert np.abs(found["weights"][0]).argmax() == 2
    assert "above all controls" in found.notes[-1]
    assert found.check.kind == "control"


def test_what_the_inputs_tell_is_not_called_found():
    torch.manual_seed(1)
    inputs = torch.randn(600, 2)
    series = [{"name": "input", "values": inputs[:, 0].tolist()}]
    found = analyse(trace(nn.LSTM(2, 4), inputs), "probe", series=series)
    assert found["r2_inputs"][0] > 0.99
    assert "nothing found" in found.notes[-1]


def test_noise_is_not_found():
    torch.manual_seed(1)
    noise = np.random.default_rng(0).standard_normal(600).tolist()
    found = analyse(trace(nn.GRU(2, 4), torch.randn(600, 2)), "probe", series=[{"name": "noise", "values": noise}])
    assert found["r2"][0] < 0.05
    assert "nothing found" in found.notes[-1]


def test_too_few_steps_are_refused():
    series = [{"name": "short", "values": list(range(60))}]
    with pytest.raises(InvalidInput, match="has 60 known steps; 5 folds with gaps of 30 steps need 170"):
        analyse(trace(nn.LSTM(2, 4), torch.randn(60, 2)), "probe", series=series)
