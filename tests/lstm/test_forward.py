import pytest
import torch
from torch import nn

from app.lstm import LSTMSpec, State
from app.lstm.batch import pad
from app.lstm.forward import forward


@pytest.fixture(params=[{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 2, "bias": False}], ids=str)
def module(request, seeded_lstm):
    return seeded_lstm(3, 5, batch_first=True, **request.param)


def random_state(module, generator):
    shapes = LSTMSpec.from_module(module).state_shapes(3)
    return State(*(torch.randn(shape, generator=generator) for shape in shapes.values()))


@pytest.mark.parametrize("lengths", [(6, 2, 4), (5, 5, 5)])
@pytest.mark.parametrize("padding", [0.0, float("nan")])
def test_output_and_state_are_those_of_torchs_packed_sequences(module, random, lengths, padding):
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

    for values in (output, without):
        torch.testing.assert_close(values, expected_output, rtol=0, atol=1e-6, equal_nan=True)
    assert (nothing is None) == (ragged and not module.bidirectional)
    for mine, other in zip(final, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)
