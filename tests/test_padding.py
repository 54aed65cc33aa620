"""Ragged batches are read row by row within each length."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope import padding
from gatescope.backends.chunk import Chunk
from gatescope.padding import BatchLayout
from gatescope.state import State

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)
EXTRA = st.integers(0, 2)


def layout_of(lengths, extra=0):
    layout = BatchLayout(lengths, max(lengths) + extra, torch.device("cpu"))
    return layout, torch.randn(layout.time, len(lengths), 2)


@given(lengths=LENGTHS, extra=EXTRA)
@settings(deadline=None, max_examples=40)
def test_each_row_is_reversed_within_its_own_length(lengths, extra):
    layout, values = layout_of(lengths, extra)
    turned = layout.reversed(values)
    for row, length in enumerate(lengths):
        assert torch.equal(turned[:length, row], values[:length, row].flip(0))
        assert torch.equal(turned[length:, row], values[length:, row])
    assert torch.equal(layout.reversed(turned), values)


@given(lengths=LENGTHS, extra=EXTRA, size=st.integers(1, 4), direction=st.sampled_from(["forward", "reverse"]))
@settings(deadline=None, max_examples=60)
def test_chunks_are_placed_at_their_input_time(lengths, extra, size, direction):
    layout, values = layout_of(lengths, extra)
    read = values if direction == "forward" else layout.reversed(values)
    placed = torch.full_like(values, torch.nan)
    for start in range(0, layout.time, size):
        layout.place(read[start : start + size], placed, direction, start)
    assert torch.equal(placed, values)


@given(lengths=LENGTHS, extra=EXTRA)
@settings(deadline=None, max_examples=40)
def test_only_the_padding_is_filled(lengths, extra):
    layout, values = layout_of(lengths, extra)
    zeroed, filled = layout.with_zero_padding(values), values.clone()
    layout.fill_padding(filled)
    for row, length in enumerate(lengths):
        assert torch.equal(zeroed[:length, row], values[:length, row])
        assert not zeroed[length:, row].any()
        assert torch.equal(filled[:length, row], values[:length, row])
        assert filled[length:, row].isnan().all()


@given(lengths=LENGTHS, extra=EXTRA, size=st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_last_state_of_each_row_comes_from_its_last_chunk(lengths, extra, size):
    layout, values = layout_of(lengths, extra)
    final = None
    for start in range(0, layout.time, size):
        part = values[start : start + size]
        ended = State(part[-1:], -part[-1:])
        final = layout.last_state(Chunk(start, (part.repeat(1, 1, 4),), (part, -part), ended), final)
    for row, length in enumerate(lengths):
        assert torch.equal(final.hidden_state[0, row], values[length - 1, row])
        assert torch.equal(final.cell_state[0, row], -values[length - 1, row])


LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@given(lengths=LENGTHS)
@settings(deadline=None, max_examples=40)
def test_padded_sequences_keep_their_values_and_lengths(lengths):
    sequences = [torch.randn(length, 2) for length in lengths]
    padded, given = padding.pad(sequences)
    assert padded.shape == (len(lengths), max(lengths), 2)
    assert given.tolist() == lengths
    for row, sequence in zip(padded, sequences, strict=True):
        assert torch.equal(row[: len(sequence)], sequence)
        assert not row[len(sequence) :].any()


@given(lengths=LENGTHS)
@settings(deadline=None, max_examples=40)
def test_validity_and_last_step_follow_each_rows_length(lengths):
    values = torch.randn(len(lengths), max(lengths), 2)
    valid = padding.is_valid(torch.tensor(lengths), max(lengths))
    last = padding.at_last_step(values, torch.tensor(lengths))
    for b, length in enumerate(lengths):
        assert valid[b].tolist() == [t < length for t in range(max(lengths))]
        assert torch.equal(last[b], values[b, length - 1])


def test_token_ids_can_be_padded():
    padded, lengths = padding.pad([torch.tensor([4, 5, 6]), torch.tensor([7])])
    assert padded.tolist() == [[4, 5, 6], [7, 0, 0]]
    assert lengths.tolist() == [3, 1]
