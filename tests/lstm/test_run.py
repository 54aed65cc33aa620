"""Calls that carry their state are one run; what is none is refused by name."""

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from app.errors import InvalidInput
from app.lstm import SIGNALS, Selection, State, equations
from app.lstm.hooks import listen
from app.lstm.run import Run


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
        oracle = equations.run(module, row.double(), own)
        for name in SIGNALS:
            values = traced.signals[name][index, :, :, : len(row)].double()
            torch.testing.assert_close(values, oracle[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [1, 5, 12])
def test_chunks_are_one_run(seeded_lstm, batch, size):
    module, state = seeded_lstm(3, 4, 2, batch_first=True), None
    with listen({"it": module}) as calls:
        for chunk in batch.split(size, dim=1):
            _, state = module(chunk, state)
    run = Run.of("it", module, calls["it"], 2)
    assert run.lengths.tolist() == [12, 12]
    assert torch.equal(run.final_state.cell_state, state[1])
    assert_traced(run, module, batch)


def test_packed_chunks_of_different_lengths_are_joined_row_by_row(seeded_lstm, batch):
    module = seeded_lstm(3, 4)
    first, second = [batch[0, :4], batch[1, :2]], [batch[0, 4:5], batch[1, 2:9]]
    with listen({"it": module}) as calls:
        _, state = module(pack_sequence(first, enforce_sorted=False))
        module(pack_sequence(second, enforce_sorted=False), state)
    run = Run.of("it", module, calls["it"], 2)
    assert run.lengths.tolist() == [5, 9]
    assert run.output.shape == (2, 9, 4)
    assert run.output[0, 5:].isnan().all()
    assert_traced(run, module, [batch[0, :5], batch[1, :9]])


def test_runs_over_some_rows_each_make_that_of_the_batch(seeded_lstm, batch, random):
    module = seeded_lstm(3, 4, 2, bidirectional=True, proj_size=2, batch_first=True)
    begin = State(torch.randn(4, 3, 2, generator=random), torch.randn(4, 3, 4, generator=random))
    rows, parts = [batch[0, :7], batch[1], batch[0, 2:9]], []
    for places in ([1], [0, 2]):
        with listen({"it": module}) as calls:
            module(torch.stack([rows[place] for place in places]), tuple(value[:, places] for value in begin))
        parts.append((torch.tensor(places), Run.of("it", module, calls["it"], len(places))))
    run = Run.gathered(parts)
    assert run.lengths.tolist() == [7, 12, 7]
    assert torch.equal(run.initial_state.hidden_state, begin.hidden_state)
    assert_traced(run, module, rows, begin)


def test_the_residual_is_the_distance_from_what_the_calls_gave(seeded_lstm, batch):
    module = seeded_lstm(3, 4, batch_first=True)
    with listen({"it": module}) as calls:
        module(batch)
    calls["it"][0].output[1, 3, 2] += 0.25
    run = Run.of("it", module, calls["it"], 2)
    assert run.traced(module, Selection(signals=())).residual == pytest.approx(0.25, abs=1e-6)


class TestRefusals:
    def test_a_state_that_is_not_carried(self, seeded_lstm, batch):
        module = seeded_lstm(3, 4, batch_first=True)
        with listen({"it": module}) as calls:
            _, state = module(batch)
            module(batch, state)
            module(batch)
        assert "'it' is called 3 times, and call 2 does not begin in the state where call 1 ended" in refused(
            module, calls["it"]
        )

    def test_another_batch(self, seeded_lstm, batch):
        module = seeded_lstm(3, 4, batch_first=True)
        with listen({"it": module}) as calls:
            module(batch)
            module(batch[:1])
        assert "calls 0 and 1 with batches of 2 and 1" in refused(module, calls["it"])
        assert "reads a batch of 2 where there are 5 sequences" in refused(module, calls["it"][:1], rows=5)

    def test_both_directions_in_chunks(self, seeded_lstm, batch):
        module = seeded_lstm(3, 4, bidirectional=True, batch_first=True)
        with listen({"it": module}) as calls:
            _, state = module(batch)
            module(batch, state)
        assert "reads both ways and is called 2 times" in refused(module, calls["it"])

    def test_no_call(self, seeded_lstm):
        assert "'it' did not run over these inputs" in refused(seeded_lstm(3, 4), [])
