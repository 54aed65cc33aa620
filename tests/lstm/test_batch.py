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
def test_validity_and_last_step_follow_each_rows_length(lengths):
    values = torch.randn(len(lengths), max(lengths), 2)
    valid = batch.is_valid(torch.tensor(lengths), max(lengths))
    last = batch.at_last_step(values, torch.tensor(lengths))
    for b, length in enumerate(lengths):
        assert valid[b].tolist() == [t < length for t in range(max(lengths))]
        assert torch.equal(last[b], values[b, length - 1])


def test_token_ids_are_padded_too():
    padded, lengths = batch.pad([torch.tensor([4, 5, 6]), torch.tensor([7])])
    assert padded.tolist() == [[4, 5, 6], [7, 0, 0]]
    assert lengths.tolist() == [3, 1]
