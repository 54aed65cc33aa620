import pytest
import torch
from torch import nn

from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.layers.layer import Shape

LINEAR = {"type": "linear"}


@pytest.mark.parametrize("bias", [False, True])
def test_it_is_nn_linear_at_every_step(made, ragged, steps, assert_rows, bias):
    module, values = nn.Linear(4, 3, bias=bias), ragged(4)
    layer = made(LINEAR, module, Shape(4))
    assert_rows(layer(values, steps=steps), values, module)
    assert (layer.shape.width, layer.shape.names) == (3, ("it 0", "it 1", "it 2"))


def test_it_is_nn_linear_of_a_vector(made, steps, random):
    module, values = nn.Linear(4, 3), torch.randn(2, 4, generator=random)
    layer = made(LINEAR, module, Shape(4, is_sequence=False))
    torch.testing.assert_close(layer(values, steps=steps), module(values), rtol=0, atol=1e-6)
    assert not layer.shape.is_sequence


def test_a_convolution_of_one_step_is_linear(made, ragged, steps, assert_rows):
    module, values = nn.Conv1d(4, 3, 1), ragged(4)
    given = made(LINEAR, module, Shape(4))(values, steps=steps)
    assert_rows(given, values, lambda row: module(row.transpose(1, 2)).transpose(1, 2))


def test_a_convolution_of_several_steps_is_not(made):
    with pytest.raises(WeightsError, match=r"'it\.weight' has shape \[3, 4, 2\], but layer 'it' needs any × any × 1"):
        made(LINEAR, nn.Conv1d(4, 3, 2), Shape(4))


def test_another_width_shows_both(made):
    with pytest.raises(ManifestError, match="'it' takes 4 values, but is given 5"):
        made(LINEAR, nn.Linear(4, 3), Shape(5))


@pytest.mark.parametrize("shape", [(4,), (3, 1)])
def test_a_bias_of_another_shape_is_refused(made, shape):
    with pytest.raises(WeightsError, match=r"'it\.bias' has shape .* needs 3"):
        made(LINEAR, {"weight": torch.zeros(3, 4), "bias": torch.zeros(shape)}, Shape(4))


def test_a_vector_is_no_weight(made):
    with pytest.raises(WeightsError, match=r"'it\.weight' has shape \[3\], but layer 'it' needs any × any"):
        made(LINEAR, {"weight": torch.zeros(3)}, Shape(4))


def test_a_missing_weight_is_named(made):
    with pytest.raises(WeightsError, match=r"layer 'it' needs the weight 'it\.weight', which is not there"):
        made(LINEAR, {}, Shape(4))


def test_token_ids_are_not_numbers(made):
    with pytest.raises(ManifestError, match="'the layer before it' is token ids: an embedding or one_hot layer comes"):
        made(LINEAR, nn.Linear(4, 3), Shape(4, is_ids=True))


def test_it_reads_one_value(made):
    with pytest.raises(ManifestError, match="'it' reads one value, not 2"):
        made(LINEAR, nn.Linear(4, 3), Shape(4), Shape(4))


def test_what_it_gives_is_neither_probabilities_nor_directions(made):
    shape = made(LINEAR, nn.Linear(4, 3), Shape(4, directions=2, is_probability=True)).shape
    assert (shape.directions, shape.is_probability) == (1, False)
