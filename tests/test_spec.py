import itertools

import pytest
import torch
from torch import nn

from gatescope.errors import WeightsError
from gatescope.spec import Spec
from gatescope.tracing import trace

GRID = list(itertools.product((1, 2, 3), (False, True), (False, True), (0, 2), ("", "lstm.", "encoder.rnn.")))


@pytest.fixture
def weights():
    """The state dict of an `nn.LSTM(3, 4, num_layers=2)`."""
    return dict(nn.LSTM(3, 4, num_layers=2).state_dict())


@pytest.mark.parametrize(("num_layers", "bidirectional", "bias", "proj_size", "prefix"), GRID)
def test_every_argument_is_inferred_from_a_larger_state_dict(num_layers, bidirectional, bias, proj_size, prefix):
    arguments = {"bias": bias, "bidirectional": bidirectional, "proj_size": proj_size}
    module = nn.LSTM(3, 4, num_layers, **arguments)
    weights = {prefix + name: value for name, value in module.state_dict().items()}
    weights |= {"embedding.weight": torch.zeros(9, 3), "head.0.weight": torch.zeros(1, 4), "weight": torch.zeros(1)}
    spec = Spec.from_state_dict(weights, prefix)
    assert spec == Spec(3, 4, num_layers, **arguments)
    assert spec == Spec.from_module(module)


@pytest.mark.parametrize(("num_layers", "bidirectional", "bias", "proj_size"), [case[:4] for case in GRID[::3]])
def test_parameter_shapes_and_built_modules_equal_torch(num_layers, bidirectional, bias, proj_size):
    module = nn.LSTM(3, 4, num_layers, bias=bias, bidirectional=bidirectional, proj_size=proj_size)
    spec = Spec.from_module(module)
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert spec.parameter_shapes() == expected
    assert list(spec.parameter_shapes()) == list(expected)
    built = spec.build()
    assert {name: tuple(value.shape) for name, value in built.state_dict().items()} == expected
    assert built.batch_first
    assert not built.training
    output, (h, c) = module(torch.zeros(5, 2, 3))
    assert spec.output_size == output.shape[-1]
    assert spec.state_shapes(2) == {"hidden_state": tuple(h.shape), "cell_state": tuple(c.shape)}


@pytest.mark.parametrize("proj_size", [0, 2])
def test_signals_have_the_sizes_and_bounds_of_the_module(seeded_lstm, proj_size):
    module = seeded_lstm(3, 4, proj_size=proj_size)
    spec = Spec.from_module(module)
    traced = trace(module, torch.randn(5, 3) * 100)
    assert spec.signal_names == tuple(traced.signals) == tuple(signal.name for signal in spec.signals)
    assert spec.signal_sizes == {name: values.shape[-1] for name, values in traced.signals.items()}
    bounds = {signal.name: (signal.low, signal.high) for signal in spec.signals}
    assert bounds == {
        "input_gate": (0, 1),
        "forget_gate": (0, 1),
        "cell_candidate": (-1, 1),
        "output_gate": (0, 1),
        "cell_state": (None, None),
        "hidden_state": (None, None) if proj_size else (-1, 1),
    }
    for name, (low, high) in bounds.items():
        assert low is None or low <= traced.signals[name].min()
        assert high is None or traced.signals[name].max() <= high


def test_arguments_make_the_same_module():
    arguments = Spec(3, 4, 2, bias=False, bidirectional=True, proj_size=2).arguments
    assert Spec.from_module(nn.LSTM(**arguments)).arguments == arguments


@pytest.mark.parametrize("name", nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2).state_dict())
def test_a_missing_parameter_is_refused(name):
    weights = dict(nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2).state_dict())
    del weights[name]
    with pytest.raises(WeightsError):
        Spec.from_state_dict(weights)


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l1", "bias_ih_l0", "bias_hh_l1"])
def test_the_missing_parameter_is_named_with_its_prefix(weights, name):
    del weights[name]
    with pytest.raises(WeightsError, match=rf"'lstm\.{name}' is missing"):
        Spec.from_state_dict({f"lstm.{key}": value for key, value in weights.items()}, "lstm.")


@pytest.mark.parametrize(
    ("surplus", "named"),
    [
        ("weight_ih_l2", "weight_hh_l2"),  # half a third layer: the rest of it is missing
        ("weight_hr_l1", "weight_hr_l1"),
        ("bias_ih_l1_reverse", "_reverse"),
    ],
)
def test_a_surplus_parameter_is_refused(weights, surplus, named):
    weights[surplus] = torch.zeros(16, 4)
    with pytest.raises(WeightsError, match=named):
        Spec.from_state_dict(weights)


@pytest.mark.parametrize(
    "module",
    [nn.GRU(3, 4), nn.GRU(3, 4, 2, bidirectional=True), nn.RNN(3, 4), nn.RNN(3, 4, 2, bias=False, bidirectional=True)],
    ids=str,
)
def test_the_cell_is_read_from_the_rows_of_the_weights(module):
    spec = Spec.from_state_dict(module.state_dict())
    assert spec == Spec.from_module(module)
    assert spec.cell.module is type(module)


def test_weights_of_no_cell_are_refused_with_the_rows_of_each():
    weights = {name: torch.zeros(8, value.shape[-1]) for name, value in nn.RNN(3, 4).state_dict().items()}
    with pytest.raises(WeightsError) as refused:
        Spec.from_state_dict(weights)
    assert str(refused.value) == (
        "'weight_ih_l0' has 8 rows, but an nn.LSTM of hidden size 4 has 16 or an nn.GRU of hidden size 4 has 12 or "
        "an nn.RNN of hidden size 4 has 4"
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("weight_ih_l0", (15, 3)),
        ("weight_ih_l0", (48,)),
        ("weight_ih_l1", (16, 3)),
        ("weight_hh_l0", (16, 5)),
        ("weight_hh_l1", (16, 4, 1)),
        ("bias_ih_l0", (4,)),
        ("bias_hh_l1", (16, 1)),
    ],
)
def test_a_wrong_shape_is_refused_with_both_sizes(weights, name, shape):
    weights[name] = torch.zeros(shape)
    with pytest.raises(WeightsError, match=r"has shape|has \d+ rows") as refused:
        Spec.from_state_dict(weights)
    assert "weight_ih_l0" in str(refused.value) or name in str(refused.value)


@pytest.mark.parametrize("shape", [(2,), (2, 4, 1), (2, 5)])
def test_a_projection_of_a_wrong_shape_is_refused(shape):
    weights = dict(nn.LSTM(3, 4, proj_size=2).state_dict())
    weights["weight_hr_l0"] = torch.zeros(shape)
    with pytest.raises(WeightsError):
        Spec.from_state_dict(weights)


def test_a_projection_as_wide_as_the_cell_is_refused():
    # nn.LSTM itself takes only proj_size < hidden_size, so build() could not make this one
    weights = {
        "weight_ih_l0": torch.zeros(16, 3),
        "weight_hh_l0": torch.zeros(16, 4),
        "weight_hr_l0": torch.zeros(4, 4),
    }
    with pytest.raises(WeightsError):
        Spec.from_state_dict(weights)


@pytest.mark.parametrize("state_dict", [{}, {"head.0.weight": torch.zeros(2, 4)}])
def test_no_lstm_at_all_is_refused_with_the_prefix(state_dict):
    with pytest.raises(WeightsError, match=r"no nn\.LSTM or nn\.GRU or nn\.RNN stands under the prefix 'lstm\.'"):
        Spec.from_state_dict(state_dict, "lstm.")


def test_an_lstm_under_another_prefix_is_not_found(weights):
    with pytest.raises(WeightsError, match=r"'lstm\.weight_ih_l0' is missing"):
        Spec.from_state_dict({f"rnn.{name}": value for name, value in weights.items()}, "lstm.")
