"""Calls of a recurrent module are captured whatever form they have."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

from gatescope.backends import reference
from gatescope.capture import Run, capture_calls
from gatescope.cells import LSTM
from gatescope.errors import InvalidInput
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State

LENGTHS = (2, 5, 3)
KINDS = [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 2}]


@pytest.fixture
def rows(random):
    return [torch.randn(length, 3, generator=random) for length in LENGTHS]


@pytest.fixture(params=KINDS, ids=str)
def module(request, seeded_lstm):
    return seeded_lstm(3, 4, **request.param)


def state(module, batch):
    shapes = Spec.from_module(module).state_shapes(batch)
    return State(*(torch.randn(shape) for shape in shapes.values()))


def captured(module, *args, **kwargs):
    """The one call of it."""
    with capture_calls({"it": module}) as calls:
        module(*args, **kwargs)
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
    [call] = calls["it"]
    return call


def assert_is(call, module, rows, begin=None):
    """The call read these rows, and its output equals the equations."""
    assert call.lengths.tolist() == [len(row) for row in rows]
    begin = begin or State.zeros(Spec.from_module(module), len(rows), rows[0])
    for index, row in enumerate(rows):
        assert torch.equal(call.inputs[index, : len(row)], row)
        own, given = (State(*(v[:, index : index + 1] for v in state)) for state in (begin, call.initial_state))
        assert all(torch.equal(*values) for values in zip(own, given, strict=True))
        oracle = reference.run(module, row.double(), State(*(value.double() for value in own)))
        torch.testing.assert_close(call.output[index, : len(row)].double(), oracle["output"], rtol=0, atol=1e-5)
        last = oracle["cell_state"][:, 0, -1]  # (layer, unit), forward
        final = call.final_state.cell_state[:: Spec.from_module(module).num_directions, index]
        torch.testing.assert_close(final.double(), last, rtol=0, atol=1e-5)


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "given state"])
def test_packed_rows_are_captured_in_their_own_order(module, rows, given):
    begin = state(module, 3) if given else None
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    packed = pack_padded_sequence(padded, LENGTHS, batch_first=True, enforce_sorted=False)
    assert_is(captured(module, packed, begin), module, rows, begin)


def test_sorted_packed_rows_are_captured(module, rows):
    rows = sorted(rows, key=len, reverse=True)
    assert_is(captured(module, pack_sequence(rows)), module, rows)


@pytest.mark.parametrize("batch_first", [False, True])
def test_padded_rows_and_keyword_arguments_are_captured(module, random, batch_first):
    module.batch_first = batch_first
    batch, begin = torch.randn(3, 5, 3, generator=random), state(module, 3)
    given = batch if batch_first else batch.transpose(0, 1)
    assert_is(captured(module, given, begin), module, list(batch), begin)
    assert_is(captured(module, input=given, hx=begin), module, list(batch), begin)
    assert_is(captured(module, given), module, list(batch))


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "given state"])
def test_a_sequence_without_a_batch_is_a_batch_of_one(module, rows, given):
    begin = state(module, 1) if given else None
    hx = None if begin is None else tuple(value[:, 0] for value in begin)
    assert_is(captured(module, rows[1], hx), module, rows[1:2], begin)


def test_captured_values_are_copies(module, random):
    batch, begin = torch.randn(5, 3, 3, generator=random), state(module, 3)
    before = batch.clone()
    with capture_calls({"it": module}) as calls:
        output, (h, c) = module(batch, begin)
        for value in (batch, output, h, c, *begin):
            value.zero_()
    assert torch.equal(calls["it"][0].inputs, before.transpose(0, 1))
    assert calls["it"][0].output.any()
    assert all(value.any() for state in (calls["it"][0].initial_state, calls["it"][0].final_state) for value in state)


def test_values_changed_by_other_hooks_are_captured(seeded_lstm, random):
    module, row = seeded_lstm(3, 4), torch.randn(5, 3, generator=random)
    module.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    module.register_forward_hook(lambda _, __, output: (output[0] * 0, output[1]))
    with capture_calls({"it": module}) as calls:
        module(row)
    assert_is(calls["it"][0], module, [row * 2])
    assert len(module._forward_hooks) == len(module._forward_pre_hooks) == 1


def test_hooks_are_removed_after_an_exception(seeded_lstm, random):
    module, row = seeded_lstm(3, 4), torch.randn(5, 3, generator=random)
    with pytest.raises(RuntimeError), capture_calls({"it": module}) as calls:
        module(torch.zeros(5, 7))
    assert not calls
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
    module(row)
    with capture_calls({"it": module}) as calls:
        pass
    assert not calls


def test_calls_are_in_the_order_of_the_first_ones(seeded_lstm, random):
    first, second = seeded_lstm(3, 3), seeded_lstm(3, 3)
    row = torch.randn(5, 3, generator=random)
    with capture_calls({"second": second, "first": first, "never": seeded_lstm(1, 1)}) as calls:
        second(first(first(row)[0])[0])
    assert {name: len(found) for name, found in calls.items()} == {"first": 2, "second": 1}
    assert list(calls) == ["first", "second"]


@pytest.fixture
def batch(random):
    return torch.randn(2, 12, 3, generator=random)


def refused(module, calls, rows=2):
    with pytest.raises(InvalidInput) as error:
        Run.of("it", module, calls, rows)
    [place] = error.value.places
    assert place.loc == ("module",)
    return place.message


def assert_traced(run, module, rows, begin=None, tolerance=1e-5):
    traced = run.traced(module, Selection())
    assert traced.residual < tolerance
    for index, row in enumerate(rows):
        own = None if begin is None else State(*(value[:, index : index + 1].double() for value in begin))
        oracle = reference.run(module, row.double(), own)
        for name in LSTM.signal_names:
            values = traced.signals[name][index, :, :, : len(row)].double()
            torch.testing.assert_close(values, oracle[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [1, 5, 12])
def test_chunks_make_one_run(seeded_lstm, batch, size):
    module, state = seeded_lstm(3, 4, 2, batch_first=True), None
    with capture_calls({"it": module}) as calls:
        for chunk in batch.split(size, dim=1):
            _, state = module(chunk, state)
    run = Run.of("it", module, calls["it"], 2)
    assert run.lengths.tolist() == [12, 12]
    assert torch.equal(run.final_state.cell_state, state[1])
    assert_traced(run, module, batch)


def test_packed_chunks_of_different_lengths_are_joined_row_by_row(seeded_lstm, batch):
    module = seeded_lstm(3, 4)
    first, second = [batch[0, :4], batch[1, :2]], [batch[0, 4:5], batch[1, 2:9]]
    with capture_calls({"it": module}) as calls:
        _, state = module(pack_sequence(first, enforce_sorted=False))
        module(pack_sequence(second, enforce_sorted=False), state)
    run = Run.of("it", module, calls["it"], 2)
    assert run.lengths.tolist() == [5, 9]
    assert run.output.shape == (2, 9, 4)
    assert run.output[0, 5:].isnan().all()
    assert_traced(run, module, [batch[0, :5], batch[1, :9]])


def test_runs_over_some_rows_are_gathered(seeded_lstm, batch, random):
    module = seeded_lstm(3, 4, 2, bidirectional=True, proj_size=2, batch_first=True)
    begin = State(torch.randn(4, 3, 2, generator=random), torch.randn(4, 3, 4, generator=random))
    rows, parts = [batch[0, :7], batch[1], batch[0, 2:9]], []
    for places in ([1], [0, 2]):
        with capture_calls({"it": module}) as calls:
            module(torch.stack([rows[place] for place in places]), tuple(value[:, places] for value in begin))
        parts.append((torch.tensor(places), Run.of("it", module, calls["it"], len(places))))
    run = Run.gathered(parts)
    assert run.lengths.tolist() == [7, 12, 7]
    assert torch.equal(run.initial_state.hidden_state, begin.hidden_state)
    assert_traced(run, module, rows, begin)


def test_residual_covers_the_output_of_the_calls(seeded_lstm, batch):
    module = seeded_lstm(3, 4, batch_first=True)
    with capture_calls({"it": module}) as calls:
        module(batch)
    calls["it"][0].output[1, 3, 2] += 0.25
    run = Run.of("it", module, calls["it"], 2)
    assert run.traced(module, Selection(signals=())).residual == pytest.approx(0.25, abs=1e-6)


class TestRefusals:
    def test_a_state_that_is_not_continued(self, seeded_lstm, batch):
        module = seeded_lstm(3, 4, batch_first=True)
        with capture_calls({"it": module}) as calls:
            _, state = module(batch)
            module(batch, state)
            module(batch)
        assert "'it' is called 3 times, and call 2 does not begin in the state where call 1 ended" in refused(
            module, calls["it"]
        )

    def test_another_batch(self, seeded_lstm, batch):
        module = seeded_lstm(3, 4, batch_first=True)
        with capture_calls({"it": module}) as calls:
            module(batch)
            module(batch[:1])
        assert "calls 0 and 1 with batches of 2 and 1" in refused(module, calls["it"])
        assert "reads a batch of 2 where there are 5 sequences" in refused(module, calls["it"][:1], rows=5)

    def test_both_directions_in_chunks(self, seeded_lstm, batch):
        module = seeded_lstm(3, 4, bidirectional=True, batch_first=True)
        with capture_calls({"it": module}) as calls:
            _, state = module(batch)
            module(batch, state)
        assert "is bidirectional and is called 2 times" in refused(module, calls["it"])

    def test_no_call(self, seeded_lstm):
        assert "'it' did not run over these inputs" in refused(seeded_lstm(3, 4), [])
