import pytest
import torch
from torch import nn

from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.layers.layer import Shape, Steps


def over_time(module):
    """(1, time, width) -> (1, time, width), through a module whose axes are (batch, channel, time)."""
    return lambda row: module(row.transpose(1, 2)).transpose(1, 2)


def behind_zeros(module, count):
    """The same with so many zeros before the first step."""
    return over_time(lambda channels: module(nn.functional.pad(channels, (count, 0))))


@pytest.mark.parametrize("garbage", [torch.nan, 1e30])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (5, 1), (3, 2), (3, 4), (2, 2), (4, 2)])
def test_same_is_nn_conv1d_over_each_row_alone(made, ragged, steps, assert_rows, kernel, dilation, groups, garbage):
    module = nn.Conv1d(4, 8, kernel, dilation=dilation, groups=groups, padding="same")
    values = ragged(4, garbage)
    layer = made({"type": "conv1d", "dilation": dilation}, module, Shape(4))
    assert_rows(layer(values, steps=steps), values, over_time(module))
    assert (layer.shape.width, layer.shape.is_sequence, layer.shape.is_local) == (8, True, kernel == 1)


def test_same_is_what_a_padding_of_half_the_kernel_gives(made, ragged, steps, assert_rows):
    module, values = nn.Conv1d(4, 3, 5, padding=2), ragged(4)
    assert_rows(made({"type": "conv1d"}, module, Shape(4))(values, steps=steps), values, over_time(module))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "dilation"), [(2, 1), (3, 1), (4, 1), (2, 3), (3, 2)])
def test_causal_is_nn_conv1d_behind_zeros(made, ragged, steps, assert_rows, kernel, dilation, groups):
    module, values = nn.Conv1d(4, 6, kernel, dilation=dilation, groups=groups, bias=False), ragged(4)
    layer = made({"type": "conv1d", "padding": "causal", "dilation": dilation}, module, Shape(4))
    assert_rows(layer(values, steps=steps), values, behind_zeros(module, (kernel - 1) * dilation))


def test_causal_steps_do_not_depend_on_later_ones(made, random):
    module, values = nn.Conv1d(2, 2, 3), torch.randn(1, 9, 2, generator=random)
    layer = made({"type": "conv1d", "padding": "causal"}, module, Shape(2))
    changed = values.clone()
    changed[:, 5:] += 1
    whole = Steps(torch.tensor([9]), 9, ragged=False)
    torch.testing.assert_close(layer(values, steps=whole)[:, :5], layer(changed, steps=whole)[:, :5], rtol=0, atol=0)


def test_a_kernel_without_a_middle_cannot_keep_the_steps(made):
    with pytest.raises(ManifestError, match="'it' has a kernel of 4, which cannot be centred on a step"):
        made({"type": "conv1d"}, nn.Conv1d(4, 4, 4), Shape(4))


@pytest.mark.parametrize(("width", "groups"), [(5, 1), (6, 1), (3, 2)])
def test_another_width_shows_both(made, width, groups):
    module = nn.Conv1d(4, 4, 3, groups=groups)
    if width % (4 // groups) == 0 and 4 % (width // (4 // groups)) == 0:
        pytest.fail("such a width fits")
    with pytest.raises(ManifestError, match=rf"takes a multiple of {4 // groups} values, but is given {width}"):
        made({"type": "conv1d"}, module, Shape(width))


def test_a_vector_has_no_time_to_convolve(made):
    with pytest.raises(ManifestError, match="'it' reads a sequence, but 'the layer before it' is a vector"):
        made({"type": "conv1d"}, nn.Conv1d(4, 4, 3), Shape(4, is_sequence=False))


def test_a_matrix_is_no_kernel(made):
    with pytest.raises(WeightsError, match=r"has shape \[4, 4\], but layer 'it' needs any × any × any"):
        made({"type": "conv1d"}, nn.Linear(4, 4), Shape(4))
