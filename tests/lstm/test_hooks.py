"""Whatever form a call of an `nn.LSTM` comes in, it is heard as what it computed."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

from app.lstm import LSTMSpec, State, equations
from app.lstm.hooks import listen

LENGTHS = (2, 5, 3)
KINDS = [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 2}]


@pytest.fixture
def rows(random):
    return [torch.randn(length, 3, generator=random) for length in LENGTHS]


@pytest.fixture(params=KINDS, ids=str)
def module(request, seeded_lstm):
    return seeded_lstm(3, 4, **request.param)


def state(module, batch):
    shapes = LSTMSpec.from_module(module).state_shapes(batch)
    return State(*(torch.randn(shape) for shape in shapes.values()))


def heard(module, *args, **kwargs):
    """The one call of it."""
    with listen({"it": module}) as calls:
        module(*args, **kwargs)
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
    [call] = calls["it"]
    return call


def assert_is(call, module, rows, begin=None):
    """The call is one over these rows, and its output is the equations'."""
    assert call.lengths.tolist() == [len(row) for row in rows]
    begin = begin or State.zeros(LSTMSpec.from_module(module), len(rows), rows[0])
    for index, row in enumerate(rows):
        assert torch.equal(call.inputs[index, : len(row)], row)
        own, given = (State(*(v[:, index : index + 1] for v in state)) for state in (begin, call.initial_state))
        assert all(torch.equal(*values) for values in zip(own, given, strict=True))
        oracle = equations.run(module, row.double(), State(*(value.double() for value in own)))
        torch.testing.assert_close(call.output[index, : len(row)].double(), oracle["output"], rtol=0, atol=1e-5)
        last = oracle["cell_state"][:, 0, -1]  # (layer, unit), forward
        final = call.final_state.cell_state[:: LSTMSpec.from_module(module).num_directions, index]
        torch.testing.assert_close(final.double(), last, rtol=0, atol=1e-5)


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "given state"])
def test_rows_packed_in_any_order_are_heard_in_their_own(module, rows, given):
    begin = state(module, 3) if given else None
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    packed = pack_padded_sequence(padded, LENGTHS, batch_first=True, enforce_sorted=False)
    assert_is(heard(module, packed, begin), module, rows, begin)


def test_rows_packed_in_order_are_heard_so(module, rows):
    rows = sorted(rows, key=len, reverse=True)
    assert_is(heard(module, pack_sequence(rows)), module, rows)


@pytest.mark.parametrize("batch_first", [False, True])
def test_padded_rows_are_heard_batch_first_and_named_arguments_too(module, random, batch_first):
    module.batch_first = batch_first
    batch, begin = torch.randn(3, 5, 3, generator=random), state(module, 3)
    given = batch if batch_first else batch.transpose(0, 1)
    assert_is(heard(module, given, begin), module, list(batch), begin)
    assert_is(heard(module, input=given, hx=begin), module, list(batch), begin)
    assert_is(heard(module, given), module, list(batch))


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "given state"])
def test_a_sequence_without_a_batch_is_a_batch_of_one(module, rows, given):
    begin = state(module, 1) if given else None
    hx = None if begin is None else tuple(value[:, 0] for value in begin)
    assert_is(heard(module, rows[1], hx), module, rows[1:2], begin)


def test_what_is_heard_stays_as_it_was(module, random):
    batch, begin = torch.randn(5, 3, 3, generator=random), state(module, 3)
    before = batch.clone()
    with listen({"it": module}) as calls:
        output, (h, c) = module(batch, begin)
        for value in (batch, output, h, c, *begin):
            value.zero_()
    assert torch.equal(calls["it"][0].inputs, before.transpose(0, 1))
    assert calls["it"][0].output.any()
    assert all(value.any() for state in (calls["it"][0].initial_state, calls["it"][0].final_state) for value in state)


def test_hooks_of_others_are_heard_on_their_far_side(seeded_lstm, random):
    module, row = seeded_lstm(3, 4), torch.randn(5, 3, generator=random)
    module.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    module.register_forward_hook(lambda _, __, output: (output[0] * 0, output[1]))
    with listen({"it": module}) as calls:
        module(row)
    assert_is(calls["it"][0], module, [row * 2])
    assert len(module._forward_hooks) == len(module._forward_pre_hooks) == 1


def test_nothing_is_heard_after_an_exception_or_by_the_next_listener(seeded_lstm, random):
    module, row = seeded_lstm(3, 4), torch.randn(5, 3, generator=random)
    with pytest.raises(RuntimeError), listen({"it": module}) as calls:
        module(torch.zeros(5, 7))
    assert not calls
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
    module(row)
    with listen({"it": module}) as calls:
        pass
    assert not calls


def test_calls_come_in_the_order_of_the_first_ones(seeded_lstm, random):
    first, second = seeded_lstm(3, 3), seeded_lstm(3, 3)
    row = torch.randn(5, 3, generator=random)
    with listen({"second": second, "first": first, "never": seeded_lstm(1, 1)}) as calls:
        second(first(first(row)[0])[0])
    assert {name: len(found) for name, found in calls.items()} == {"first": 2, "second": 1}
    assert list(calls) == ["first", "second"]
