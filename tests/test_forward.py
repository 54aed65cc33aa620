import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from gatescope import forward as module_of_forward
from gatescope.forward import forward
from gatescope.padding import pad
from gatescope.spec import Spec
from gatescope.state import State
from tests.bulk import some


@pytest.fixture(params=[{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 2, "bias": False}], ids=str)
def module(request, seeded_lstm):
    return seeded_lstm(3, 5, batch_first=True, **request.param)


def random_state(module, generator, batch=3):
    shapes = Spec.from_module(module).state_shapes(batch)
    return State(*(torch.randn(shape, generator=generator) for shape in shapes.values()))


def random_run(module, batch, time, generator):
    inputs = torch.randn(batch, time, module.input_size, generator=generator)
    return inputs, torch.full((batch,), time), random_state(module, generator, batch)


def assert_as_nn_lstm(module, run):
    inputs, lengths, state = run
    with torch.no_grad():
        expected, expected_final = module(inputs, tuple(state))
    output, final = forward(module, inputs, lengths, state, ragged=False)
    for mine, other in zip((output, *final), (expected, *expected_final), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lengths", [(6, 2, 4), (5, 5, 5)])
@pytest.mark.parametrize("padding", [0.0, float("nan")])
def test_output_and_state_equal_torchs_packed_sequences(module, random, lengths, padding):
    sequences = [torch.randn(length, 3, generator=random) for length in lengths]
    state = random_state(module, random)
    rows = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
    packed, expected = module(rows, tuple(state))
    expected_output, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, padding_value=torch.nan)
    padded, given = pad(sequences)
    for row, length in enumerate(lengths):
        padded[row, length:] = padding

    ragged = len(set(lengths)) > 1
    output, final = forward(module, padded, given, state, ragged=ragged)
    without, nothing = forward(module, padded, given, state, ragged=ragged, with_state=False)
    unread, _ = forward(module, padded, given, state, ragged=ragged, with_state=False, with_padding=False)

    own = ~expected_output.isnan()
    torch.testing.assert_close(unread[own], expected_output[own], rtol=0, atol=1e-6)
    for values in (output, without):
        torch.testing.assert_close(values, expected_output, rtol=0, atol=1e-6, equal_nan=True)
    assert (nothing is None) == (ragged and not module.bidirectional)
    for mine, other in zip(final, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


ONE_STEP = itertools.product(
    [{}, {"num_layers": 3}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2, "bias": False}],
    (5, 16, 64),
    (1, 2, 16, 65, 256),
    ("cell", "reordered", "chosen"),
)


class TestShortCalls:
    """One step runs `torch.lstm_cell`, a few run the kernel with reordered weights; both equal `nn.LSTM`."""

    @pytest.mark.random
    @pytest.mark.parametrize(("arguments", "hidden_size", "batch", "kernel"), some(ONE_STEP, 7), ids=str)
    def test_one_step(self, monkeypatch, random, arguments, hidden_size, batch, kernel):
        if kernel != "chosen":
            monkeypatch.setattr(module_of_forward, "MAX_CELL_UNITS", 10**9 if kernel == "cell" else 0)
        module = nn.LSTM(7, hidden_size, batch_first=True, **arguments).eval()
        assert_as_nn_lstm(module, random_run(module, batch, 1, random))

    @pytest.mark.parametrize("batch", [1, 2, 16, 65])
    @pytest.mark.parametrize("time", [2, 7])
    @pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
    def test_a_few_steps(self, random, arguments, time, batch):
        module = nn.LSTM(7, 24, batch_first=True, **arguments).eval()
        assert_as_nn_lstm(module, random_run(module, batch, time, random))

    def test_only_longer_calls_run_the_module_itself(self, random):
        module, calls = nn.LSTM(3, 5, batch_first=True).eval(), []
        module.register_forward_hook(lambda *_: calls.append(1))
        for batch, time in ((1, 1), (4, 1), (512, 1), (1, 512), (16, 32)):
            inputs, lengths, state = random_run(module, batch, time, random)
            forward(module, inputs, lengths, state, ragged=False)
        assert not calls
        inputs, lengths, state = random_run(module, 16, 33, random)
        forward(module, inputs, lengths, state, ragged=False)
        assert calls == [1]

    @pytest.mark.parametrize("time", [1, 3])
    @pytest.mark.parametrize("batch", [1, 4])
    def test_changed_weights_count_in_the_next_call(self, random, batch, time):
        module = nn.LSTM(3, 5, batch_first=True).eval()
        run = random_run(module, batch, time, random)
        assert_as_nn_lstm(module, run)
        with torch.no_grad():
            module.weight_hh_l0.mul_(-2)
        assert_as_nn_lstm(module, run)
        module.load_state_dict(nn.LSTM(3, 5).state_dict())
        assert_as_nn_lstm(module, run)
        module.weight_ih_l0 = nn.Parameter(torch.randn(20, 3, generator=random))
        assert_as_nn_lstm(module, run)
        module.bias_ih_l0.data = torch.randn(20, generator=random)
        assert_as_nn_lstm(module, run)
        inputs, lengths, state = run
        assert_as_nn_lstm(module.double(), (inputs.double(), lengths, state.to(inputs.double())))

    def test_weights_made_in_inference_mode(self, random):
        with torch.inference_mode():
            module = nn.LSTM(3, 5, batch_first=True).eval()
            assert_as_nn_lstm(module, random_run(module, 2, 1, random))
            assert_as_nn_lstm(module, random_run(module, 2, 3, random))

    def test_weights_reordered_in_inference_mode_are_used_outside(self, random):
        module = nn.LSTM(3, 5, batch_first=True).eval()
        run = random_run(module, 2, 3, random)
        with torch.inference_mode():
            assert_as_nn_lstm(module, run)
        assert_as_nn_lstm(module, run)

    @pytest.mark.parametrize("time", [1, 3])
    def test_states_of_a_wrong_shape_are_refused_by_nn_lstm(self, random, time):
        module = nn.LSTM(3, 5, batch_first=True).eval()
        inputs, lengths, state = random_run(module, 2, time, random)
        with pytest.raises(RuntimeError, match="Expected hidden"):
            forward(module, inputs, lengths, State(state.hidden_state[:, :1], state.cell_state), ragged=False)

    def test_a_state_in_any_memory_order(self, random):
        module = nn.LSTM(3, 5, 2, batch_first=True).eval()
        for time in (1, 3):
            inputs, lengths, state = random_run(module, 4, time, random)
            strided = State(*(value.transpose(0, 1).contiguous().transpose(0, 1) for value in state))
            assert_as_nn_lstm(module, (inputs, lengths, strided))

    def test_no_gradients_are_recorded(self, random):
        module = nn.LSTM(3, 5, batch_first=True)
        for time in (1, 3):
            inputs, lengths, state = random_run(module, 2, time, random)
            output, final = forward(module, inputs, lengths, state, ragged=False)
            assert not any(value.requires_grad for value in (output, *final))

    def test_several_threads_at_once(self, random):
        module = nn.LSTM(3, 16, 2, batch_first=True).eval()
        runs = [random_run(module, batch, time, random) for batch in (1, 3, 100) for time in (1, 2, 5)] * 10
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda run: assert_as_nn_lstm(module, run), runs))
