import numpy as np
import pytest
import torch

from studies.counting import __main__ as counting
from studies.counting import inside
from studies.counting.network import Network, right
from studies.counting.tasks import batch, brackets, counted


def by_hand():
    """An LSTM whose first unit counts exactly: all gates open, the candidate +1 or −1 times a half."""
    network = Network("lstm", 2)
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        bias = network.recurrent.get_parameter("bias_ih_l0")
        bias[[0, 2, 6]] = 30.0  # input, forget and output gate of unit 0
        network.recurrent.get_parameter("weight_ih_l0")[4] = torch.tensor([0.05, -0.05])
        network.head.weight[0, 0], network.head.bias[0] = -1.0, 0.02
    return network


@pytest.mark.examples
def test_counting_study_runs_to_figures(tmp_path):
    counting.main(["--out", str(tmp_path), "--seeds", "1", "--hidden", "2", "--steps", "2"])
    assert {path.name for path in tmp_path.iterdir()} == {"counting.json", "counting-right.svg"}


def test_counter_built_by_hand_is_found_and_moves_one_count():
    network, strings = by_hand(), batch([counted(n) for n in range(1, 11)])
    with torch.no_grad():
        assert right(network(strings.inputs), strings).all()
    found = inside.counter(network, strings)
    assert found.unit == 0
    assert found.r == pytest.approx(1, abs=1e-4)
    assert found.per_count == pytest.approx(np.tanh(0.05), rel=1e-3)
    assert inside.moved(network, found) == pytest.approx(1)
    assert inside.leaking(network, strings, 0) < 0.5
    assert inside.leaking(network, strings, 1) == 1


def test_brackets_are_balanced_and_as_deep_as_asked():
    generator = np.random.default_rng(0)
    for _ in range(50):
        depth = np.cumsum(1 - 2 * brackets(generator, 3, 7))
        assert depth[-1] == 0
        assert depth.min() == 0
        assert 3 <= depth.max() <= 7
