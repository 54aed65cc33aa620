import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from gatescope.errors import WeightsError
from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.layers.layer import Shape, Steps, Weights

CONFIG = TypeAdapter(LayerConfig)


@pytest.fixture
def tensors():
    return {"a.weight": torch.zeros(2, 3), "a.inner.weight": torch.zeros(1), "bias": torch.zeros(3)}


def test_weights_are_taken_by_their_own_names_and_remembered(tensors):
    taken = set()
    weights = Weights(tensors, taken, "layer", "a")
    assert weights.take("weight", 2, None) is tensors["a.weight"]
    assert weights.find("bias", 3) is None
    assert taken == {"a.weight"}
    assert weights.anywhere("bias") is tensors["bias"]
    assert taken == {"a.weight", "bias"}


def test_those_directly_below_are_listed_and_not_taken(tensors):
    taken = set()
    assert Weights(tensors, taken, "layer", "a").below().keys() == {"weight"}
    assert Weights(tensors, taken, "layer", "").below().keys() == {"bias"}
    assert not taken


@pytest.mark.parametrize("dims", [(2,), (3, 2), (2, 3, 1)])
def test_another_shape_shows_both(tensors, dims):
    with pytest.raises(WeightsError, match=r"'a\.weight' has shape \[2, 3\], but layer 'layer' needs"):
        Weights(tensors, set(), "layer", "a").take("weight", *dims)


def test_steps_fill_the_padding_and_find_the_last():
    steps = Steps(torch.tensor([3, 1]), 3, ragged=True)
    values = torch.arange(6.0).view(2, 3, 1)
    assert steps.filled(values, -1).flatten().tolist() == [0, 1, 2, 3, -1, -1]
    assert steps.last(values).flatten().tolist() == [2, 3]


def test_other_numbers_have_the_layers_name_and_no_directions():
    made = Shape(4, is_ids=True, directions=2, is_probability=True, sums_up=True).numbered("fc", 2)
    assert made == Shape(2, names=("fc 0", "fc 1"), sums_up=True)


@pytest.mark.parametrize(
    "stated",
    [
        {"type": "linear"},
        {"type": "linear", "name": ""},
        {"type": "attention", "name": "a"},
        {"type": "linear", "name": "a", "function": "relu"},
        {"type": "activation", "name": "a"},
        {"type": "activation", "name": "a", "function": "swish"},
        {"type": "conv1d", "name": "a", "dilation": 0},
        {"type": "conv1d", "name": "a", "padding": "valid"},
        {"type": "batch_norm", "name": "a", "eps": 0},
        {"type": "rms_norm", "name": "a", "eps": -1},
        {"type": "pool", "name": "a", "how": "median"},
        {"type": "directions", "name": "a", "how": "first"},
        {"type": "lstm", "name": "a", "hidden_size": "wide"},
        {"name": "a"},
    ],
    ids=str,
)
def test_what_no_layer_states_is_refused(stated):
    with pytest.raises(ValidationError):
        CONFIG.validate_python(stated)
