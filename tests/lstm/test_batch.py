import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lstm import batch

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@given(lengths=LENGTHS)
@settings(deadline=None, max_examples=40)
def test_padded_sequences_keep_their_values_and_lengths(lengths):
    sequences = [torch.randn(length, 2) for length in lengths]
    padded, given = batch.pad(sequences)
    assert padded.shape == (len(lengths), max(lengths), 2)
    assert given.tolist() == lengths
    for row, sequence in zip(padded, sequences, strict=True):
        assert torch.equal(row[: len(sequence)], sequence)
        assert not row[len(sequence) :].any()


@given(lengths=LENGTHS)
@settings(deadline=None, max_examples=40)
def test_each_row_is_reversed_within_its_own_length(lengths):
    values = torch.randn(len(lengths), max(lengths), 2)
    turned = batch.reverse(values, torch.tensor(lengths))
    for before, after, length in zip(values, turned, lengths, strict=True):
        assert torch.equal(after[:length], before[:length].flip(0))
        assert torch.equal(after[length:], before[length:])
    assert torch.equal(batch.reverse(turned, torch.tensor(lengths)), values)


@given(lengths=LENGTHS)
@settings(deadline=None, max_examples=40)
def test_validity_and_last_step_follow_each_rows_length(lengths):
    values = torch.randn(len(lengths), max(lengths), 2)
    valid = batch.is_valid(torch.tensor(lengths), max(lengths))
    last = batch.at_last_step(values, torch.tensor(lengths))
    for b, length in enumerate(lengths):
        assert valid[b].tolist() == [t < length for t in range(max(lengths))]
        assert torch.equal(last[b], values[b, length - 1])


def test_token_ids_are_padded_and_reversed_too():
    padded, lengths = batch.pad([torch.tensor([4, 5, 6]), torch.tensor([7])])
    assert padded.tolist() == [[4, 5, 6], [7, 0, 0]]
    assert batch.reverse(padded, lengths).tolist() == [[6, 5, 4], [7, 0, 0]]
