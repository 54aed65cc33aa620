"""A new version of a model that is there: its manifest is obeyed, and a sample is held against it."""

import pytest
import torch
from torch import nn

from gatescope.errors import InvalidInput, VersionExists


class Forecaster(nn.Module):
    def __init__(self, hidden=4, names=("lstm", "fc1", "norm", "fc2")):
        super().__init__()
        self.names = names
        parts = (nn.LSTM(3, hidden, batch_first=True), nn.Linear(hidden, 5), nn.LayerNorm(5), nn.Linear(5, 2))
        for name, part in zip(names, parts, strict=True):
            self.add_module(name, part)

    def forward(self, values):
        lstm, fc1, norm, fc2 = (self.get_submodule(name) for name in self.names)
        return fc2(norm(fc1(lstm(values)[0][:, -1])).tanh())


LAYERS = ("lstm", "last", "fc1", "norm", "tanh", "fc2")


def computed(module, inputs):
    with torch.no_grad():
        return module(inputs)


@pytest.fixture
def inputs(random):
    return torch.randn(3, 6, 3, generator=random)


@pytest.fixture
def first(bring):
    """Version 1, whose layers are stated."""
    return bring(Forecaster(), layers=LAYERS, outputs=("x", "y"))


@pytest.mark.usefixtures("first")
class TestAdded:
    @pytest.mark.parametrize("hidden", [4, 7])
    def test_weights_of_the_same_names_are_taken(self, bring, inputs, hidden):
        module = Forecaster(hidden)
        brought = bring(module)
        assert (brought.imported.version, brought.manifest.head.names) == ("2", ("x", "y"))
        torch.testing.assert_close(
            brought.ask([*inputs]).prediction.values, computed(module, inputs), rtol=0, atol=1e-5
        )

    def test_weights_of_other_names_are_taken_in_their_order(self, bring, inputs):
        module = Forecaster(names=("rnn", "hidden", "ln", "out"))
        brought = bring(module)
        assert "Layers: rnn as lstm, hidden as fc1, ln as norm, out as fc2." in brought.notes
        torch.testing.assert_close(
            brought.ask([*inputs]).prediction.values, computed(module, inputs), rtol=0, atol=1e-5
        )

    def test_a_sample_verifies_it(self, bring, inputs):
        module = Forecaster()
        brought = bring(module, sample={"inputs": inputs, "expected": computed(module, inputs)})
        assert brought.model.verified.max_error <= 1e-5

    def test_a_sample_that_it_does_not_give_is_refused_and_nothing_is_left(self, bring, inputs, models):
        module = Forecaster()
        with pytest.raises(InvalidInput, match="sample: the model's predictions are off by"):
            bring(module, sample={"inputs": inputs, "expected": 1.01 * computed(module, inputs)})
        assert not (models / "mine/2").exists()

    @pytest.mark.parametrize(
        ("sample", "message"),
        [
            ({"inputs": torch.zeros(3, 6, 3), "expected": torch.zeros(3, 5)}, "its expected values have shape"),
            ({"inputs": torch.zeros(3, 6, 9), "expected": torch.zeros(3, 2)}, "features a time step"),
            ({"text": ["a"], "expected": torch.zeros(1, 2)}, "the model reads none"),
        ],
    )
    def test_a_sample_of_another_model_is_refused(self, bring, models, sample, message):
        with pytest.raises(InvalidInput, match=f"sample: .*{message}"):
            bring(Forecaster(), sample=sample)
        assert not (models / "mine/2").exists()

    def test_layers_of_other_types_are_refused_with_both_lists(self, bring):
        module = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "fc1": nn.Linear(4, 2)})
        with pytest.raises(InvalidInput, match="lstm, linear, layer_norm, linear, but the checkpoint has lstm, linear"):
            bring(module)

    def test_a_version_that_is_there_is_refused(self, bring):
        with pytest.raises(VersionExists, match="has a version '1' already"):
            bring(Forecaster(), version="1")
