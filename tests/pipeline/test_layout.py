"""Answers are split by rows and merged over time as their fields' layouts say; each against plain indexing."""

from dataclasses import dataclass, field, fields

import pytest
import torch

from gatescope.pipeline.layout import AsAsked, Record, Rows, RowSplit, Signals, Slot, States, map_tensors
from gatescope.pipeline.query import ANSWER, Answer, Prediction, Query
from gatescope.selection import Selection
from gatescope.state import State
from gatescope.tracing import Trace

LENGTHS = (6, 4, 1)


@pytest.fixture
def query():
    return Query(torch.zeros(3, 6, 2), torch.tensor(LENGTHS), trace=Selection(("cell_state",), time=slice(1, None, 2)))


def slots(query, steps):
    for start in range(0, 6, steps):
        yield Slot(query, (query.sequence_lengths > start).nonzero()[:, 0], start, min(start + steps, 6))


def merged(layout, parts):
    whole = None
    for part, slot in parts:
        whole = layout.merge(whole, part, slot)
    return whole


@pytest.mark.parametrize("steps", [1, 2, 4, 6])
class TestMerging:
    def test_steps_stand_in_their_places_and_the_rest_is_padding(self, query, steps, random):
        values = torch.randn(3, 6, 2, generator=random)
        parts = [(values[slot.rows, slot.start : slot.stop], slot) for slot in slots(query, steps)]
        whole = merged(Rows(time=1), parts)
        for row, length in enumerate(LENGTHS):
            computed = -(-length // steps) * steps  # the row was in this many steps of chunks
            assert torch.equal(whole[row, : min(computed, 6)], values[row, :computed])
            assert whole[row, computed:].isnan().all()

    def test_whole_numbers_are_padded_with_zero(self, query, steps):
        values = torch.arange(18).view(3, 6) + 1
        parts = [(values[slot.rows, slot.start : slot.stop], slot) for slot in slots(query, steps)]
        whole = merged(Rows(time=1), parts)
        assert whole.dtype == torch.int64
        assert torch.equal(whole[0], values[0])
        assert (whole[2, -(-1 // steps) * steps :] == 0).all()

    def test_without_time_each_rows_latest_is_kept(self, query, steps):
        parts = [(slot.rows * 100.0 + slot.start, slot) for slot in slots(query, steps)]
        last = [(length - 1) // steps * steps for length in LENGTHS]
        assert merged(Rows(), parts).tolist() == [100.0 * row + start for row, start in enumerate(last)]

    def test_rows_are_combined(self, query, steps):
        parts = [(slot.rows * 0 + 1, slot) for slot in slots(query, steps)]
        assert merged(Rows(combine=torch.add), parts).tolist() == [-(-length // steps) for length in LENGTHS]

    def test_states_are_the_first_or_each_rows_last(self, query, steps):
        def state(slot):
            values = (slot.rows * 100.0 + slot.start)[None, :, None]
            return State(values, values + 0.5)

        parts = [(state(slot), slot) for slot in slots(query, steps)]
        last = [100.0 * row + (length - 1) // steps * steps for row, length in enumerate(LENGTHS)]
        assert merged(States("first"), parts).hidden_state.flatten().tolist() == [0.0, 100.0, 200.0]
        assert merged(States("last"), parts).cell_state.flatten().tolist() == [each + 0.5 for each in last]

    def test_signals_have_the_selected_steps(self, query, steps, random):
        values = torch.randn(3, 1, 1, 6, 4, generator=random)
        parts = []
        for slot in slots(query, steps):
            chosen = [step for step in (1, 3, 5) if slot.start <= step < slot.stop]
            parts.append(({"cell_state": values[slot.rows][:, :, :, chosen]} if chosen else {}, slot))
        whole = merged(Signals(), parts)["cell_state"]
        assert whole.shape == (3, 1, 1, 3, 4)
        assert torch.equal(whole[0], values[0, :, :, [1, 3, 5]])

    def test_a_prediction_per_step_has_the_wholes_steps(self, query, steps, random):
        values, whole = torch.randn(3, 6, 2, generator=random), Answer(query.sequence_lengths, query.inputs)
        for slot in slots(query, steps):
            part = values[slot.rows, slot.start : slot.stop]
            lengths = (query.sequence_lengths[slot.rows] - slot.start).clamp(max=slot.stop - slot.start)
            prediction = Prediction(part, lengths, part.argmax(-1))
            whole = ANSWER.merge(whole, Answer(lengths, part, prediction=prediction), slot)
        assert whole.prediction.steps.tolist() == list(LENGTHS)
        assert torch.equal(whole.prediction.choices[0], values[0].argmax(-1))
        assert whole.inputs is query.inputs


def test_a_batch_is_split_into_rows_no_longer_than_their_query(random):
    queries = [Query(torch.zeros(2, 3, 1), torch.tensor([3, 2])), Query(torch.zeros(1, 5, 1), torch.tensor([5]))]
    values, state = torch.randn(3, 5, 4, generator=random), State(torch.arange(3.0).view(1, 3, 1), torch.ones(1, 3, 2))
    answer = Answer(torch.tensor([3, 2, 5]), torch.zeros(3, 5, 1), output=values, final_state=state)
    first, second = ANSWER.split(answer, RowSplit(queries, [2, 1], [3, 5]))
    assert torch.equal(first.output, values[:2, :3])
    assert torch.equal(second.output, values[2:])
    assert [each.final_state.hidden_state.flatten().tolist() for each in (first, second)] == [[0.0, 1.0], [2.0]]
    assert (first.inputs, second.sequence_lengths) == (queries[0].inputs, queries[1].sequence_lengths)
    assert first.prediction is None


def test_every_field_of_a_trace_that_differs_by_row_has_a_layout():
    alike = {"backend", "is_edited", "module", "spec"}  # the same for all rows and chunks
    assert set(ANSWER._layouts["trace"]._layouts) == {each.name for each in fields(Trace)} - alike


def test_a_new_field_needs_its_layout_and_nothing_else(query, random):
    @dataclass(frozen=True)
    class More(Answer):
        attention: torch.Tensor | None = field(default=None, metadata={"layout": Rows(time=1)})

    record = Record({each.name: each.metadata["layout"] for each in fields(More) if each.metadata})
    values = torch.randn(3, 6, 1, generator=random)
    answer = More(query.sequence_lengths, query.inputs, attention=values)
    rows = [query.evolve(inputs=query.inputs[row : row + 1]) for row in range(3)]
    parts = record.split(answer, RowSplit(rows, [1, 1, 1], None))
    assert torch.equal(torch.cat([part.attention for part in parts]), values)
    assert map_tensors(torch.clone, answer).attention is not values


def test_map_tensors_reaches_every_tensor_and_keeps_the_rest(query):
    state = State(torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    answer = Answer(torch.ones(1), torch.ones(1), prediction=Prediction(torch.ones(1), None, None), final_state=state)
    seen = []
    map_tensors(lambda tensor: seen.append(tensor) or tensor, (answer, state, {"a": [1]}, None))
    assert len(seen) == 7
    doubled = map_tensors(lambda tensor: 2 * tensor, answer)
    assert [float(each.sum()) for each in doubled.final_state] == [2.0, 2.0]
    assert doubled.prediction.values.item() == 2.0
    assert isinstance(doubled.final_state, State)
    assert AsAsked("horizon").merge(None, 0, Slot(query, torch.tensor([0]), 0, 1)) == 0
