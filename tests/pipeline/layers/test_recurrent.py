import pytest
import torch
from torch import nn

from gatescope.cells import GRU, LSTM, RELU, RNN, RNN_RELU, SIGMOID, hard_sigmoid, variant
from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.layers.layer import Shape, Steps
from gatescope.pipeline.layers.recurrent import Stated
from gatescope.spec import Spec

STATED = {"type": "lstm"}
ARGUMENTS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"bias": False},
    {"proj_size": 2, "num_layers": 3},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_its_module_is_the_nn_lstm_that_the_weights_are_of(made, seeded_lstm, random, arguments):
    module = seeded_lstm(3, 4, batch_first=True, **arguments)
    layer = made(STATED, module, Shape(3))
    inputs = torch.randn(2, 5, 3, generator=random)
    assert (
        layer.spec.arguments
        == {"input_size": 3, "hidden_size": 4, "num_layers": 1, "bias": True}
        | {
            "bidirectional": False,
            "proj_size": 0,
        }
        | arguments
    )
    torch.testing.assert_close(layer.module(inputs)[0], module(inputs)[0], rtol=0, atol=0)
    assert layer.shape.directions == (2 if arguments.get("bidirectional") else 1)
    assert layer.shape.width == module(inputs)[0].shape[-1]
    assert layer.shape.names == tuple(f"it {index}" for index in range(layer.shape.width))
    assert layer.initial_state(2) is None


@pytest.mark.parametrize("bias", [False, True])
def test_an_nn_lstmcell_is_an_nn_lstm_stepped(made, random, bias):
    cell = nn.LSTMCell(3, 4, bias=bias).requires_grad_(requires_grad=False)
    layer = made(STATED, cell, Shape(3))
    inputs = torch.randn(2, 5, 3, generator=random)
    state, outputs = None, []
    for step in inputs.unbind(1):
        state = cell(step, state)
        outputs.append(state[0])
    torch.testing.assert_close(layer.module(inputs)[0], torch.stack(outputs, dim=1), rtol=0, atol=1e-6)


FURTHER = [
    ({"type": "gru"}, nn.GRU, {}),
    ({"type": "rnn"}, nn.RNN, {}),
    ({"type": "rnn", "nonlinearity": "relu"}, nn.RNN, {"nonlinearity": "relu"}),
]


@pytest.mark.parametrize(("stated", "kind", "own"), FURTHER)
class TestFurtherTypes:
    @pytest.mark.parametrize("arguments", ARGUMENTS[:3], ids=str)
    def test_its_module_is_the_one_that_the_weights_are_of(self, made, random, stated, kind, own, arguments):
        module = kind(3, 4, batch_first=True, **own, **arguments).requires_grad_(requires_grad=False)
        layer = made(stated, module, Shape(3))
        inputs = torch.randn(2, 5, 3, generator=random)
        torch.testing.assert_close(layer.module(inputs)[0], module(inputs)[0], rtol=0, atol=0)
        assert type(layer.module) is kind
        assert layer.spec.cell.nonlinearity == getattr(module, "nonlinearity", None)
        assert layer.shape.width == module(inputs)[0].shape[-1]
        assert layer.shape.directions == (2 if arguments.get("bidirectional") else 1)

    @pytest.mark.parametrize("bias", [False, True])
    def test_a_cell_is_its_module_stepped(self, made, random, stated, kind, own, bias):
        cell = {nn.GRU: nn.GRUCell, nn.RNN: nn.RNNCell}[kind](3, 4, bias=bias, **own).requires_grad_(
            requires_grad=False
        )
        layer = made(stated, cell, Shape(3))
        inputs = torch.randn(2, 5, 3, generator=random)
        state, outputs = None, []
        for step in inputs.unbind(1):
            state = cell(step, state)
            outputs.append(state)
        torch.testing.assert_close(layer.module(inputs)[0], torch.stack(outputs, dim=1), rtol=0, atol=1e-6)
        assert type(layer.module) is kind

    @pytest.mark.parametrize("arguments", ARGUMENTS[:3], ids=str)
    def test_its_one_state_is_learned(self, made, random, stated, kind, own, arguments):
        module = kind(3, 4, batch_first=True, **own, **arguments)
        entries = module.num_layers * (2 if module.bidirectional else 1)
        learned = torch.randn(entries, 1, 4, generator=random)
        layer = made(stated | {"initial_hidden_state": "it.h0"}, {**module.state_dict(), "h0": learned}, Shape(3))
        (state,) = layer.initial_state(5)
        assert torch.equal(state, learned.expand(-1, 5, -1))

    def test_another_type_is_refused_with_both(self, made, stated, kind, own):
        for other in {"lstm", "gru", "rnn"} - {stated["type"]}:
            named = rf"is of type {other}, but its weights are those of an nn\.{kind.__name__}"
            with pytest.raises(WeightsError, match=named):
                made({"type": other}, kind(3, 4, **own), Shape(3))


VARIANTS = [
    ({"type": "lstm", "activation": "relu"}, nn.LSTM, variant(LSTM, candidate=RELU, output=RELU)),
    ({"type": "lstm", "activation": "relu", "output_activation": "tanh"}, nn.LSTM, variant(LSTM, candidate=RELU)),
    ({"type": "lstm", "recurrent_activation": "hard_sigmoid"}, nn.LSTM, variant(LSTM, gate=hard_sigmoid(0.2, 0.5))),
    ({"type": "gru", "reset_after": False}, nn.GRU, variant(GRU, reset_after=False)),
    ({"type": "gru", "activation": "relu"}, nn.GRU, variant(GRU, candidate=RELU)),
    ({"type": "rnn", "activation": "sigmoid"}, nn.RNN, variant(RNN, candidate=SIGMOID)),
    ({"type": "rnn", "activation": "relu"}, nn.RNN, RNN_RELU),
]


@pytest.mark.parametrize(("stated", "kind", "cell"), VARIANTS, ids=str)
def test_functions_make_a_variant_of_the_cell(made, random, stated, kind, cell):
    module = kind(3, 4, 2, bidirectional=True).requires_grad_(requires_grad=False)
    layer = made(stated, module, Shape(3))
    assert layer.spec.cell is cell
    own = Spec(3, 4, 2, bidirectional=True, cell=cell).build()
    own.load_state_dict(module.state_dict())
    inputs = torch.randn(2, 5, 3, generator=random)
    torch.testing.assert_close(layer.module(inputs)[0], own(inputs)[0], rtol=0, atol=0)
    assert not torch.equal(own(inputs)[0], module(inputs)[0])


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        ({"type": "lstm", "activation": "softmax"}, "there is no function 'softmax'; known are sigmoid, tanh"),
        ({"type": "lstm", "reset_after": False}, "reset_after"),
        ({"type": "gru", "output_activation": "tanh"}, "output_activation"),
        ({"type": "rnn", "recurrent_activation": "tanh"}, "recurrent_activation"),
        ({"type": "rnn", "nonlinearity": "tanh", "activation": "relu"}, "either `nonlinearity` or `activation`"),
    ],
)
def test_functions_that_a_type_does_not_have_are_refused(made, stated, problem):
    with pytest.raises(ValueError, match=problem):
        made(stated, nn.LSTM(3, 4), Shape(3))


def test_a_projection_goes_with_pytorchs_functions_only(made, seeded_lstm):
    with pytest.raises(ManifestError, match=r"layer 'it' has a projection.*leave activation, recurrent_activation"):
        made(STATED | {"activation": "relu"}, seeded_lstm(3, 4, proj_size=2), Shape(3))


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_what_has_no_cell_state_learns_none(made, cell):
    module = {"gru": nn.GRU, "rnn": nn.RNN}[cell](3, 4)
    with pytest.raises(ValueError, match="initial_cell_state"):
        made({"type": cell, "initial_cell_state": "it.c0"}, module, Shape(3))


@pytest.mark.parametrize("shape", [(2, 1, 4), (2, 4), (8,)])
def test_learned_states_are_read_in_any_shape_of_as_many_numbers(made, seeded_lstm, random, shape):
    module = seeded_lstm(3, 4, 2, batch_first=True)
    learned = torch.randn(shape, generator=random)
    weights = {**module.state_dict(), "h0": learned, "c0": -learned}
    stated = STATED | {"initial_hidden_state": "it.h0", "initial_cell_state": "it.c0"}
    state = made(stated, weights, Shape(3)).initial_state(5)
    for value, sign in zip(state, (1, -1), strict=True):
        assert value.shape == (2, 5, 4)
        for row in range(5):
            assert torch.equal(value[:, row].flatten(), sign * learned.flatten())


def test_a_state_that_is_not_learned_is_zero(made, seeded_lstm):
    weights = {**seeded_lstm(3, 4).state_dict(), "h0": torch.ones(1, 1, 4)}
    state = made(STATED | {"initial_hidden_state": "it.h0"}, weights, Shape(3)).initial_state(2)
    assert state.hidden_state.tolist() == [[[1] * 4] * 2]
    assert not state.cell_state.any()


def test_a_learned_state_of_another_size_is_refused(made, seeded_lstm):
    weights = {**seeded_lstm(3, 4).state_dict(), "h0": torch.ones(1, 1, 5)}
    with pytest.raises(WeightsError, match=r"'it\.h0' has shape \[1, 1, 5\], but the hidden_state of layer 'it' has"):
        made(STATED | {"initial_hidden_state": "it.h0"}, weights, Shape(3))


def test_a_learned_state_that_is_missing_is_named(made, seeded_lstm):
    with pytest.raises(WeightsError, match=r"layer 'it' needs the weight 'begin', which is not there"):
        made(STATED | {"initial_cell_state": "begin"}, seeded_lstm(3, 4), Shape(3))


def test_another_width_shows_both(made, seeded_lstm):
    with pytest.raises(ManifestError, match=r"'it' is given 5 values a time step.*nn\.LSTM has input_size 3"):
        made(STATED, seeded_lstm(3, 4), Shape(5))


def test_a_vector_has_no_steps(made, seeded_lstm):
    with pytest.raises(ManifestError, match="reads a sequence"):
        made(STATED, seeded_lstm(3, 4), Shape(3, is_sequence=False))


@pytest.mark.parametrize("argument", Stated.model_fields)
def test_what_is_stated_must_agree_with_the_weights(made, seeded_lstm, argument):
    module = seeded_lstm(3, 4, 2, bidirectional=True, proj_size=2)
    true = getattr(module, argument)
    made(STATED | {argument: true}, module, Shape(3))
    wrong = not true if isinstance(true, bool) else true + 1
    with pytest.raises(ManifestError, match=rf"it\.{argument} = {wrong}, but the weights say {argument} = {true}"):
        made(STATED | {argument: wrong}, module, Shape(3))


def test_weights_of_no_lstm_name_the_layer(made):
    with pytest.raises(WeightsError, match=r"layer 'it' is of type lstm, but its weights are those of an nn\.GRU"):
        made(STATED, nn.GRU(3, 4), Shape(3))
    with pytest.raises(
        WeightsError, match=r"layer 'it': no nn\.LSTM or nn\.GRU or nn\.RNN stands.*'weight_ih_l0' is missing"
    ):
        made(STATED, {}, Shape(3))


def test_its_forward_is_the_graphs(made, seeded_lstm):
    layer = made(STATED, seeded_lstm(3, 4), Shape(3))
    with pytest.raises(NotImplementedError):
        layer(torch.zeros(1, 1, 3), steps=Steps(torch.tensor([1]), 1, ragged=False))
