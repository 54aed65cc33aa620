import pytest
import torch
from torch import nn
from torch.nn import functional

from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.layers.activation import FUNCTIONS
from gatescope.pipeline.layers.layer import Shape

OVER_A_STEP = {
    "exp": torch.exp,
    "gelu_tanh": lambda values: functional.gelu(values, approximate="tanh"),
    "softmax": lambda values: functional.softmax(values, dim=-1),
    "log_softmax": lambda values: functional.log_softmax(values, dim=-1),
    "l2_norm": lambda values: values / values.norm(dim=-1, keepdim=True).clamp(min=1e-12),
}
MODULES = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardtanh": nn.Hardtanh,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_the_function_of_torch_with_its_default_arguments(made, ragged, steps, assert_rows, name):
    values = ragged(4) * 4
    layer = made({"type": "activation", "function": name}, {}, Shape(4))
    expected = OVER_A_STEP.get(name) or getattr(functional, name)
    assert_rows(layer(values, steps=steps), values, expected)
    if name in MODULES:
        assert_rows(layer(values, steps=steps), values, MODULES[name]())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_only_behind_softmax_and_sigmoid_stand_probabilities(made, name):
    given = Shape(4, names=tuple("abcd"), directions=2, is_probability=name == "tanh")
    shape = made({"type": "activation", "function": name}, {}, given).shape
    assert shape == Shape(4, names=tuple("abcd"), directions=2, is_probability=name in ("softmax", "sigmoid"))


@pytest.mark.parametrize("slopes", [1, 4])
def test_prelu_is_nn_prelu_over_the_numbers_of_a_step(made, ragged, steps, assert_rows, slopes):
    module, values = nn.PReLU(slopes).requires_grad_(requires_grad=False), ragged(4)
    module.weight.uniform_(-1, 1)
    layer = made({"type": "prelu"}, module, Shape(4, names=tuple("abcd")))
    assert_rows(layer(values, steps=steps), values, lambda row: module(row.transpose(1, 2)).transpose(1, 2))
    assert layer.shape == Shape(4, names=tuple("abcd"))


def test_prelu_has_one_slope_or_one_a_number(made):
    with pytest.raises(WeightsError, match=r"'it\.weight' has shape \[2\], but layer 'it' needs 4"):
        made({"type": "prelu"}, nn.PReLU(2), Shape(4))


def test_token_ids_have_no_activation(made):
    with pytest.raises(ManifestError, match="reads numbers"):
        made({"type": "activation", "function": "relu"}, {}, Shape(4, is_ids=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hard_sigmoid", lambda values: (0.2 * values + 0.5).clamp(0, 1)),
        ("hard_sigmoid(1/6, 0.5)", functional.hardsigmoid),
        ("leaky_relu(0.3)", lambda values: functional.leaky_relu(values, 0.3)),
        ("elu(0.5)", lambda values: functional.elu(values, 0.5)),
        ("linear", lambda values: values),
    ],
)
def test_functions_of_cells_have_numbers_of_their_own(made, ragged, steps, assert_rows, name, expected):
    values = ragged(4) * 4
    layer = made({"type": "activation", "function": name}, {}, Shape(4))
    assert_rows(layer(values, steps=steps), values, expected)


def test_a_function_that_nobody_knows_is_refused(made):
    with pytest.raises(ValueError, match="there is no function 'sparsemax'"):
        made({"type": "activation", "function": "sparsemax"}, {}, Shape(4))
