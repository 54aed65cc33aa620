"""Calls of a recurrent module, or of a cell in a loop, are captured whatever form they have."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

from gatescope.backends import reference
from gatescope.capture import Run, capture_calls, over_time, recurrent_modules
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
    module = over_time(module)
    traced = run.traced(module, Selection())
    assert traced.residual < tolerance
    for index, row in enumerate(rows):
        own = None if begin is None else State(*(value[:, index : index + 1].double() for value in begin))
        oracle = reference.run(module, row.double(), own)
        for name in Spec.from_module(module).signal_names:
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


KINDS_OF_CELLS = [
    (nn.LSTMCell, {}),
    (nn.LSTMCell, {"bias": False}),
    (nn.GRUCell, {}),
    (nn.GRUCell, {"bias": False}),
    (nn.RNNCell, {}),
    (nn.RNNCell, {"nonlinearity": "relu"}),
]


@pytest.fixture(params=KINDS_OF_CELLS, ids=str)
def cell(request, random):
    kind, arguments = request.param
    made = kind(3, 4, **arguments)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-0.6, 0.6, generator=random)
    return made.requires_grad_(False)


def looped(cell, batch, state=None):
    """Over (batch, time, feature): the states behind each step, the hidden state first."""
    states = []
    for step in batch.unbind(1):
        state = cell(step, state)
        states.append(state if isinstance(state, tuple) else (state,))
    return states


def cell_state(cell, batch, random):
    shapes = Spec.from_module(over_time(cell)).state_shapes(batch)
    return State(*(torch.randn(shape, generator=random) for shape in shapes.values()))


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "given state"])
class TestCells:
    def hx(self, state, dtype=torch.float32):
        return State(*(value[0].to(dtype) for value in state)).hx

    def test_calls_in_a_loop_make_one_run(self, cell, batch, random, given):
        begin = cell_state(cell, 2, random) if given else None
        with capture_calls({"it": cell}) as calls:
            states = looped(cell, batch, self.hx(begin) if given else None)
        assert len(calls["it"]) == 12
        run = Run.of("it", cell, calls["it"], 2)
        assert run.lengths.tolist() == [12, 12]
        assert torch.equal(run.inputs, batch)
        assert torch.equal(run.output, torch.stack([state[0] for state in states], dim=1))
        for value, last in zip(run.final_state, states[-1], strict=True):
            assert torch.equal(value, last[None])
        assert_traced(run, cell, batch, begin)

    def test_states_are_those_of_the_cell_in_float64(self, cell, batch, random, given):
        begin = cell_state(cell, 2, random) if given else None
        with capture_calls({"it": cell}) as calls:
            looped(cell, batch, self.hx(begin) if given else None)
        traced = Run.of("it", cell, calls["it"], 2).traced(cell, Selection())
        exact = copy.deepcopy(cell).double()
        states = looped(exact, batch.double(), self.hx(begin, torch.float64) if given else None)
        for name, values in zip(traced.spec.cell.states, zip(*states, strict=True), strict=True):
            expected = torch.stack(values, dim=1)[:, None, None]
            torch.testing.assert_close(traced.signals[name].double(), expected, rtol=0, atol=1e-5)

    def test_a_sequence_without_a_batch_is_a_batch_of_one(self, cell, batch, random, given):
        begin = cell_state(cell, 1, random) if given else None
        state = State(*(value[0, 0] for value in begin)).hx if given else None
        with capture_calls({"it": cell}) as calls:
            for step in batch[1]:
                state = cell(step, state)
        assert_traced(Run.of("it", cell, calls["it"], 1), cell, batch[1:], begin)


class TestCallsOfCells:
    def captured(self, cell, batch):
        with capture_calls({"it": cell}) as calls:
            states = looped(cell, batch)
        return calls["it"], states

    def test_captured_values_are_copies(self, cell, batch):
        state, before = None, batch.clone()
        with capture_calls({"it": cell}) as calls:
            for step in batch.unbind(1):
                state = cell(input=step, hx=state)
                step.zero_()
            for value in state if isinstance(state, tuple) else (state,):
                value.zero_()
        run = Run.of("it", cell, calls["it"], 2)
        assert torch.equal(run.inputs, before)
        assert all(value.any() for value in run.final_state)

    def test_a_state_written_in_place_is_one_run(self, cell, batch):
        state = None
        with capture_calls({"it": cell}) as calls:
            for step in batch.unbind(1):
                made = cell(step, state)
                if state is None:
                    state = made
                else:
                    for ours, theirs in zip(*(v if isinstance(v, tuple) else (v,) for v in (state, made)), strict=True):
                        ours.copy_(theirs)
        assert_traced(Run.of("it", cell, calls["it"], 2), cell, batch)

    def test_residual_covers_what_the_cell_gave(self, cell, batch):
        calls, _ = self.captured(cell, batch)
        changed = calls[3].output.clone()
        changed[1, 0, 2] += 0.25
        calls[3] = replace(calls[3], output=changed)
        assert Run.of("it", cell, calls, 2).traced(cell, Selection(signals=())).residual == pytest.approx(
            0.25, abs=1e-6
        )

    def test_an_altered_output_shows_in_the_residual(self, cell, batch):
        inner = cell.forward
        cell.forward = lambda step, hx=None: torch.utils._pytree.tree_map(lambda value: value + 0.125, inner(step, hx))
        calls, _ = self.captured(cell, batch)
        assert Run.of("it", cell, calls, 2).traced(cell, Selection(signals=())).residual > 0.05

    @pytest.mark.parametrize("part", [0, -1], ids=["hidden state", "last state"])
    def test_a_state_that_is_changed_in_between_is_refused(self, cell, batch, part):
        state = None
        with capture_calls({"it": cell}) as calls:
            for index, step in enumerate(batch.unbind(1)):
                state = cell(step, state)
                if index == 6:
                    (state if isinstance(state, tuple) else (state,))[part][0, 1] += 0.25
        said = refused(cell, calls["it"])
        assert "'it' is called 12 times, and call 7 does not begin in the state where call 6 ended" in said
        assert "its state is changed in between, as by a mask" in said

    def test_another_batch_is_refused(self, cell, batch):
        with capture_calls({"it": cell}) as calls:
            looped(cell, batch[:, :3])
            looped(cell, batch[:1])
        assert "calls 2 and 3 with batches of 2 and 1" in refused(cell, calls["it"])
        assert "reads a batch of 2 where there are 5 sequences" in refused(cell, calls["it"][:3], rows=5)
        assert "'it' did not run over these inputs" in refused(cell, [])


class TestOverTime:
    def test_it_has_the_cells_own_parameters(self, cell, batch):
        made = over_time(cell)
        assert not made.training
        for name, parameter in cell.named_parameters():
            assert getattr(made, f"{name}_l0") is parameter
        cell.weight_hh.mul_(2)
        expected = torch.stack([state[0] for state in looped(cell, batch)], dim=1)
        torch.testing.assert_close(made(batch)[0], expected, rtol=0, atol=1e-6)

    def test_it_draws_no_random_numbers(self, cell):
        before = torch.random.get_rng_state()
        over_time(cell)
        assert torch.equal(before, torch.random.get_rng_state())

    def test_a_weight_that_is_computed_is_taken_as_it_is(self, batch):
        normed = nn.utils.parametrizations.weight_norm(nn.GRUCell(3, 4), "weight_hh").requires_grad_(False)
        expected = torch.stack([state[0] for state in looped(normed, batch)], dim=1)
        torch.testing.assert_close(over_time(normed)(batch)[0], expected, rtol=0, atol=1e-6)

    def test_a_recurrent_module_is_itself(self, seeded_lstm):
        module = seeded_lstm(3, 4)
        assert over_time(module) is module

    def test_an_unknown_cell_is_refused(self):
        with pytest.raises(TypeError, match=r"must be an nn.LSTMCell, nn.GRUCell or nn.RNNCell, not RNNCellBase"):
            over_time(nn.RNNCellBase(3, 4, bias=True, num_chunks=1))


def test_recurrent_modules_are_found_by_name():
    inner = nn.ModuleDict({"gru": nn.GRU(1, 1), "cells": nn.ModuleList([nn.LSTMCell(1, 1), nn.RNNCell(1, 1)])})
    inner["own"] = nn.RNNCellBase(1, 1, bias=True, num_chunks=1)
    assert list(recurrent_modules(inner)) == ["gru", "cells.0", "cells.1"]
    for made, name in ((nn.LSTM(1, 1), "lstm"), (nn.GRUCell(1, 1), "gru"), (nn.RNN(1, 1), "rnn")):
        assert recurrent_modules(made) == {name: made}


@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN])
def test_modules_of_one_state_are_captured(kind, rows, random):
    module = kind(3, 4, 2, bidirectional=True).requires_grad_(False)
    begin = torch.randn(4, 3, 4, generator=random)
    with capture_calls({"it": module}) as calls:
        module(pack_sequence(rows, enforce_sorted=False), begin)
    run = Run.of("it", module, calls["it"], 3)
    assert torch.equal(run.initial_state.hidden_state, begin)
    assert_traced(run, module, rows, State(begin))
