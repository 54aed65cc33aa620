"""`attribution` and `connectivity`: what adds up to the prediction, and what would move it."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from gatescope import analyse, trace
from gatescope.errors import InvalidInput


@dataclass(frozen=True)
class Function:
    """A head made of a function of the module's output."""

    function: object
    names: tuple

    def __call__(self, output):
        return self.function(output)

    def only(self, _):
        return self


def linear(module, outputs=2):
    torch.manual_seed(9)
    width = module.hidden_size if not module.proj_size else module.proj_size
    layer = nn.Linear(width * (2 if module.bidirectional else 1), outputs)
    return layer, Function(layer, tuple(f"y{index}" for index in range(outputs)))


def test_parts_add_up_to_the_prediction(module):
    keeps = not module.mode.startswith("RNN")  # else no gate does, and gradients are integrated
    torch.manual_seed(4)
    layer, head = linear(module)
    inputs = torch.randn(1, 9, 3) if module.batch_first else torch.randn(9, 1, 3)
    state = [torch.randn_like(each) for each in trace(module, inputs).initial_state]
    found = analyse(trace(module, inputs, initial_state=state), "attribution", head=head, time_step=6)
    output, _ = module(inputs, tuple(state) if len(state) > 1 else state[0])
    predicted = layer(output).reshape(9, 2)[6].detach().numpy()
    np.testing.assert_allclose(found["prediction"], predicted, atol=1e-6)
    if keeps:
        np.testing.assert_allclose(found["bias"], layer.bias.detach().numpy(), atol=1e-5)
    total = found["contribution"].sum(1) + found["initial"] + found["bias"]
    np.testing.assert_allclose(total, predicted, atol=2e-5 if keeps else 0.02)
    assert found.check.value == pytest.approx(np.abs(total - found["prediction"]).max(), abs=1e-9)
    if not module.bidirectional:
        assert (found["contribution"][:, 7:] == 0).all()
    assert ("not linear" in found.notes[0]) != keeps


def test_parts_are_those_of_the_formula():
    torch.manual_seed(6)
    module = nn.LSTM(2, 3)
    layer, head = linear(module, outputs=1)
    traced = trace(module, torch.randn(5, 2))
    found = analyse(traced, "attribution", head=head)
    s = {name: values[0, 0, 0].double().numpy() for name, values in traced.signals.items()}
    kept = [np.prod(s["forget_gate"][step + 1 :], axis=0) for step in range(5)]
    sums = np.cumsum([r * i * g for r, i, g in zip(kept, s["input_gate"], s["cell_candidate"], strict=True)], axis=0)
    steps = np.diff(np.tanh(np.concatenate([np.zeros((1, 3)), sums])), axis=0)
    expected = (s["output_gate"][-1] * steps) @ layer.weight[0].detach().double().numpy()
    np.testing.assert_allclose(found["contribution"][0], expected, atol=1e-7)


@pytest.mark.parametrize("make", [lambda: nn.RNN(3, 6), lambda: nn.LSTM(3, 6)])
def test_gradients_are_integrated_where_the_head_is_not_linear(make):
    torch.manual_seed(8)
    module, layer = make(), nn.Linear(6, 1)
    head = Function(lambda output: layer(output.tanh()).square(), ("y",))
    inputs = torch.randn(7, 1, 3)
    found = analyse(trace(module, inputs), "attribution", head=head)
    assert "not linear" in found.notes[0]
    assert found.check.value < 1e-5
    zeros = head(module(torch.zeros_like(inputs))[0])[-1, 0].detach().numpy()
    np.testing.assert_allclose(found["bias"], zeros, atol=1e-6)
    total = found["contribution"].sum(1) + found["bias"]
    np.testing.assert_allclose(total, head(module(inputs)[0])[-1, 0].detach().numpy(), atol=1e-5)


def test_a_mean_over_time_is_integrated():
    module = nn.LSTM(2, 3, batch_first=True)
    layer = nn.Linear(3, 1)
    head = Function(lambda output: layer(output.mean(1)), ("y",))
    found = analyse(trace(module, torch.randn(1, 6, 2)), "attribution", head=head)
    assert found.check.value < 1e-5
    with pytest.raises(InvalidInput, match="predicts once for the whole sequence"):
        analyse(trace(module, torch.randn(1, 6, 2)), "attribution", head=head, time_step=2)


def test_values_are_named():
    module = nn.LSTM(2, 3)
    layer, head = linear(module, outputs=70)
    traced = trace(module, torch.randn(4, 2))
    with pytest.raises(InvalidInput, match="there are 70 values; name up to 64"):
        analyse(traced, "attribution", head=head)
    with pytest.raises(InvalidInput, match="no value is called 'y700'; did you mean 'y"):
        analyse(traced, "attribution", head=head, targets=["y700"])
    found = analyse(traced, "attribution", head=head, targets=["y69", "y3"])
    assert found.coordinates["output"] == ["y69", "y3"]
    predicted = layer(module(traced.inputs[0])[0])[-1].detach().numpy()
    np.testing.assert_allclose(found["prediction"], predicted[[69, 3]], atol=1e-6)


def test_a_linear_layer_is_a_head():
    torch.manual_seed(3)
    module, layer = nn.LSTM(2, 3), nn.Linear(3, 2)
    traced = trace(module, torch.randn(6, 2))
    found = analyse(traced, "attribution", head=layer)
    assert found.coordinates["output"] == ["0", "1"]
    np.testing.assert_allclose(found["prediction"], layer(traced.output)[0, -1].detach().numpy(), atol=1e-6)
    assert found.check.value < 1e-6
    assert analyse(traced, "lesions", head=layer)["effect"].shape == (1, 1, 3)


def test_without_a_head_it_is_refused():
    with pytest.raises(InvalidInput, match="'attribution' needs what makes the prediction"):
        analyse(trace(nn.LSTM(2, 3), torch.randn(4, 2)), "attribution")


def test_connectivity_is_the_norm_of_finite_differences(module):
    module, layer_head = module.double(), linear(module)
    layer, head = layer_head[0].double(), layer_head[1]
    torch.manual_seed(2)
    inputs = torch.randn(1, 8, 3, dtype=torch.float64)
    given = inputs if module.batch_first else inputs.transpose(0, 1)

    def predicted(values):
        output = module(values if module.batch_first else values.transpose(0, 1))[0]
        return layer(output).reshape(8, 2)[5, 1].item()

    expected = np.zeros(8)
    for step in range(8):
        for feature in range(3):
            change = torch.zeros_like(inputs)
            change[0, step, feature] = 1e-6
            expected[step] += ((predicted(inputs + change) - predicted(inputs - change)) / 2e-6) ** 2
    found = analyse(trace(module, given), "connectivity", head=head, time_step=5, target="y1")
    np.testing.assert_allclose(found["gradient_norm"], np.sqrt(expected), atol=1e-7)
    np.testing.assert_allclose(found["relative"], found["gradient_norm"] / found["gradient_norm"].max())


def test_connectivity_takes_the_largest_value_if_none_is_named():
    module = nn.LSTM(2, 3)
    layer, head = linear(module)
    traced = trace(module, torch.randn(4, 2))
    largest = layer(module(traced.inputs[0])[0])[-1].argmax().item()
    found = analyse(traced, "connectivity", head=head)
    assert found.notes == [f"of 'y{largest}', the largest value there"]
    named = analyse(traced, "connectivity", head=head, target=f"y{largest}")
    np.testing.assert_array_equal(found["gradient_norm"], named["gradient_norm"])
