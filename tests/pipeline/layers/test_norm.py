import pytest
import torch
from torch import nn

from gatescope.errors import WeightsError
from gatescope.pipeline.layers.layer import Shape


@pytest.fixture
def trained():
    """A module whose weights and statistics are those of no fresh one."""

    def train(module):
        generator = torch.Generator().manual_seed(1)
        for value in (*module.parameters(), *module.buffers()):
            if value.is_floating_point():
                value.data.uniform_(0.2, 2.0, generator=generator)
        return module.eval().requires_grad_(requires_grad=False)

    return train


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_batch_norm_is_nn_batch_norm_in_evaluation_mode(made, ragged, steps, assert_rows, trained, affine, eps):
    module, values = trained(nn.BatchNorm1d(4, eps=eps, affine=affine)), ragged(4)
    layer = made({"type": "batch_norm", "eps": eps}, module, Shape(4))
    assert_rows(layer(values, steps=steps), values, lambda row: module(row.transpose(1, 2)).transpose(1, 2))


def test_batch_norm_uses_statistics_that_training_left(made, steps, random):
    module = nn.BatchNorm1d(3)
    for _ in range(50):
        module(torch.randn(32, 3, generator=random) * torch.tensor([0.1, 1.0, 30.0]) + 5)
    module.eval().requires_grad_(requires_grad=False)
    values = torch.randn(2, 3, generator=random) * 10
    layer = made({"type": "batch_norm"}, module, Shape(3, is_sequence=False))
    torch.testing.assert_close(layer(values, steps=steps), module(values), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("affine", [False, True])
def test_layer_norm_is_nn_layer_norm(made, ragged, steps, assert_rows, trained, affine):
    module, values = trained(nn.LayerNorm(4, eps=1e-3, elementwise_affine=affine)), ragged(4)
    assert_rows(made({"type": "layer_norm", "eps": 1e-3}, module, Shape(4))(values, steps=steps), values, module)


def test_layer_norm_without_a_bias_is_nn_layer_norm(made, ragged, steps, assert_rows, trained):
    module, values = trained(nn.LayerNorm(4, bias=False)), ragged(4)
    assert_rows(made({"type": "layer_norm"}, module, Shape(4))(values, steps=steps), values, module)


@pytest.mark.parametrize("eps", [None, 1e-2])
@pytest.mark.parametrize("affine", [False, True])
def test_rms_norm_is_nn_rms_norm(made, ragged, steps, assert_rows, trained, affine, eps):
    module, values = trained(nn.RMSNorm(4, eps=eps, elementwise_affine=affine)), ragged(4) * 1e-3
    stated = {"type": "rms_norm"} | ({} if eps is None else {"eps": eps})
    assert_rows(made(stated, module, Shape(4))(values, steps=steps), values, module)


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_a_norm_of_a_whole_sequence_reads_no_other_step(made, ragged, steps, kind):
    values = ragged(4)
    layer = made({"type": kind}, nn.LayerNorm(4) if kind == "layer_norm" else nn.RMSNorm(4), Shape(4))
    changed = values.clone()
    changed[:, 1:] += 3
    torch.testing.assert_close(layer(values, steps=steps)[:, 0], layer(changed, steps=steps)[:, 0], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["batch_norm", "layer_norm", "rms_norm"])
def test_a_norm_keeps_names_and_directions(made, trained, kind):
    module = trained({"batch_norm": nn.BatchNorm1d, "layer_norm": nn.LayerNorm, "rms_norm": nn.RMSNorm}[kind](4))
    shape = made({"type": kind}, module, Shape(4, names=tuple("abcd"), directions=2, is_probability=True)).shape
    assert shape == Shape(4, names=tuple("abcd"), directions=2)


@pytest.mark.parametrize(
    ("kind", "name"), [("batch_norm", "running_mean"), ("layer_norm", "weight"), ("rms_norm", "weight")]
)
def test_weights_of_another_width_are_refused(made, kind, name):
    weights = {"running_mean": torch.zeros(4), "running_var": torch.ones(4), "weight": torch.ones(4)}
    with pytest.raises(WeightsError, match=rf"'it\.{name}' has shape \[4\], but layer 'it' needs 3"):
        made({"type": kind}, weights, Shape(3))


def test_a_batch_norm_without_statistics_is_refused(made):
    with pytest.raises(WeightsError, match=r"needs the weight 'it\.running_mean', which is not there"):
        made({"type": "batch_norm"}, nn.BatchNorm1d(4, track_running_stats=False), Shape(4))
