import pytest
import torch

from gatescope.errors import ManifestError
from gatescope.pipeline.layers.layer import Shape, Steps

LENGTHS = (6, 1, 4, 6)


def by_hand(how, row):
    """(time, width) -> (width,), in plain Python."""
    columns = row.T.tolist()
    return {
        "last": lambda: [column[-1] for column in columns],
        "first": lambda: [column[0] for column in columns],
        "final": lambda: [column[-1] for column in columns],
        "mean": lambda: [sum(column) / len(column) for column in columns],
        "max": lambda: [max(column) for column in columns],
        "sum": lambda: [sum(column) for column in columns],
    }[how]()


@pytest.mark.parametrize("garbage", [torch.nan, 1e30, -torch.inf])
@pytest.mark.parametrize("how", ["last", "first", "final", "mean", "max", "sum"])
def test_a_pool_reads_each_rows_own_steps_only(made, ragged, steps, how, garbage):
    values = ragged(3, garbage)
    layer = made({"type": "pool", "how": how}, {}, Shape(3, names=tuple("abc")))
    given = layer(values, steps=steps)
    expected = torch.tensor([by_hand(how, values[row, :length]) for row, length in enumerate(LENGTHS)])
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-6)
    assert (layer.shape.is_sequence, layer.shape.names) == (False, tuple("abc"))
    assert layer.shape.sums_up == (how not in ("last", "final"))


@pytest.mark.parametrize("how", ["last", "first", "final", "mean", "max", "sum"])
def test_a_batch_of_one_length_is_pooled_alike(made, random, how):
    values = torch.randn(3, 5, 2, generator=random)
    whole = Steps(torch.tensor([5, 5, 5]), 5, ragged=False)
    given = made({"type": "pool", "how": how}, {}, Shape(2))(values, steps=whole)
    torch.testing.assert_close(given, torch.tensor([by_hand(how, row) for row in values]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_final_is_h_n_of_the_top_layer(made, steps, seeded_lstm, random, layers, bidirectional):
    lstm = seeded_lstm(3, 4, layers, bidirectional=bidirectional, batch_first=True)
    directions = 2 if bidirectional else 1
    padded = torch.full((len(LENGTHS), max(LENGTHS), 4 * directions), torch.nan)
    expected = []
    for row, length in enumerate(LENGTHS):
        output, (h_n, _) = lstm(torch.randn(1, length, 3, generator=random))
        padded[row, :length] = output[0]
        expected.append(torch.cat(list(h_n[-directions:, 0])))
    layer = made({"type": "pool", "how": "final"}, {}, Shape(4 * directions, directions=directions))
    torch.testing.assert_close(layer(padded, steps=steps), torch.stack(expected), rtol=0, atol=1e-6)
    assert layer.shape.directions == directions


def test_each_step_can_be_taken_for_the_last(made, random):
    values = torch.randn(2, 5, 3, generator=random)
    everywhere = Steps(torch.tensor([5, 4]), 5, ragged=True, ends_everywhere=True)
    assert torch.equal(made({"type": "pool", "how": "last"}, {}, Shape(3))(values, steps=everywhere), values)


def test_probabilities_stay_such_unless_summed(made):
    given = Shape(3, is_probability=True)
    for how in ("last", "mean"):
        assert made({"type": "pool", "how": how}, {}, given).shape.is_probability
    assert not made({"type": "pool", "how": "sum"}, {}, given).shape.is_probability


def test_a_vector_cannot_be_pooled(made):
    with pytest.raises(ManifestError, match="'it' reads a sequence, but 'encoder' is a vector"):
        made({"type": "pool", "how": "last", "inputs": ["encoder"]}, {}, Shape(3, is_sequence=False))


@pytest.mark.parametrize(
    ("how", "merge"),
    [
        ("sum", lambda forward, reverse: forward + reverse),
        ("mean", lambda forward, reverse: 0.5 * forward + 0.5 * reverse),
        ("product", lambda forward, reverse: forward * reverse),
        ("max", lambda forward, reverse: torch.where(forward > reverse, forward, reverse)),
        ("forward", lambda forward, _: forward),
        ("reverse", lambda _, reverse: reverse),
        ("swap", lambda forward, reverse: torch.cat((reverse, forward), dim=-1)),
    ],
)
def test_directions_are_merged_at_every_step(made, ragged, steps, assert_rows, how, merge):
    values = ragged(6)
    layer = made({"type": "directions", "how": how}, {}, Shape(6, names=tuple("abcdef"), directions=2))
    assert_rows(layer(values, steps=steps), values, lambda row: merge(row[..., :3], row[..., 3:]))
    assert layer.shape.width == (6 if how == "swap" else 3)
    assert layer.shape.directions == (2 if how == "swap" else 1)
    assert layer.shape.names == (tuple("defabc") if how == "swap" else ("it 0", "it 1", "it 2"))


def test_one_direction_cannot_be_merged(made):
    with pytest.raises(ManifestError, match="'it' reads the two directions of a recurrent layer, but there is one"):
        made({"type": "directions", "how": "sum"}, {}, Shape(6))


@pytest.mark.parametrize("how", ["swap", "sum", "reverse"])
def test_what_ends_cannot_be_read_of_merged_directions(made, how):
    merged = made({"type": "directions", "how": how}, {}, Shape(4, directions=2)).shape
    with pytest.raises(ManifestError, match="pool first, then `directions`"):
        made({"type": "pool", "how": "final"}, {}, merged)
    assert made({"type": "pool", "how": "last"}, {}, merged).shape.width == merged.width
