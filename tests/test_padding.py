"""How a ragged batch is read: each row within its own length."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope import padding
from gatescope.backends.chunk import Chunk
from gatescope.padding import Order
from gatescope.state import State

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)
EXTRA = st.integers(0, 2)


def order_of(lengths, extra=0):
    order = Order(lengths, max(lengths) + extra, torch.device("cpu"))
    return order, torch.randn(order.time, len(lengths), 2)


@given(lengths=LENGTHS, extra=EXTRA)
@settings(deadline=None, max_examples=40)
def test_each_row_is_reversed_within_its_own_length(lengths, extra):
    order, values = order_of(lengths, extra)
    turned = order.reversed(values)
    for row, length in enumerate(lengths):
        assert torch.equal(turned[:length, row], values[:length, row].flip(0))
        assert torch.equal(turned[length:, row], values[length:, row])
    assert torch.equal(order.reversed(turned), values)


@given(lengths=LENGTHS, extra=EXTRA, size=st.integers(1, 4), direction=st.sampled_from(["forward", "reverse"]))
@settings(deadline=None, max_examples=60)
def test_chunks_as_they_are_read_come_to_their_own_time(lengths, extra, size, direction):
    order, values = order_of(lengths, extra)
    read = values if direction == "forward" else order.reversed(values)
    placed = torch.full_like(values, torch.nan)
    for start in range(0, order.time, size):
        order.place(read[start : start + size], placed, direction, start)
    assert torch.equal(placed, values)


@given(lengths=LENGTHS, extra=EXTRA)
@settings(deadline=None, max_examples=40)
def test_only_the_padding_is_cleaned_and_blanked(lengths, extra):
    order, values = order_of(lengths, extra)
    cleaned, blanked = order.clean(values), values.clone()
    order.blank(blanked)
    for row, length in enumerate(lengths):
        assert torch.equal(cleaned[:length, row], values[:length, row])
        assert not cleaned[length:, row].any()
        assert torch.equal(blanked[:length, row], values[:length, row])
        assert blanked[length:, row].isnan().all()


@given(lengths=LENGTHS, extra=EXTRA, size=st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_each_rows_last_state_is_taken_from_the_chunk_that_has_it(lengths, extra, size):
    order, values = order_of(lengths, extra)
    final = None
    for start in range(0, order.time, size):
        part = values[start : start + size]
        ended = State(part[-1:], -part[-1:])
        final = order.take_last(Chunk(start, part.repeat(1, 1, 4), -part, part, ended), final)
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


def test_token_ids_are_padded_too():
    padded, lengths = padding.pad([torch.tensor([4, 5, 6]), torch.tensor([7])])
    assert padded.tolist() == [[4, 5, 6], [7, 0, 0]]
    assert lengths.tolist() == [3, 1]
