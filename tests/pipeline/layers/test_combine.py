import pytest
import torch

from gatescope.errors import ManifestError
from gatescope.pipeline.layers.layer import Shape, Steps

SEQUENCE = Shape(2, names=("a", "b"))
STATIC = Shape(3, is_sequence=False, names=("x", "y", "z"), is_static=True)
LATE = Shape(2, is_sequence=False, names=("p", "q"))
CONCAT = {"type": "concat", "inputs": ["one", "two"]}
ADD = {"type": "add", "inputs": ["one", "two"]}


@pytest.fixture
def whole():
    return Steps(torch.tensor([4, 4]), 4, ragged=False)


def values_of(shape, generator):
    return torch.randn(2, 4, shape.width, generator=generator) if shape.is_sequence else torch.randn(2, shape.width)


@pytest.mark.parametrize("given", [(SEQUENCE, SEQUENCE), (STATIC, LATE)])
def test_values_stand_side_by_side_in_the_order_of_inputs(made, whole, random, given):
    values = [values_of(shape, random) for shape in given]
    layer = made(CONCAT, {}, *given)
    assert torch.equal(layer(*values, steps=whole), torch.cat(values, dim=-1))
    assert layer.shape.names == (*given[0].names, *given[1].names)


def test_a_vector_stands_at_every_step(made, whole, random):
    sequence, vector = values_of(SEQUENCE, random), values_of(STATIC, random)
    layer = made(CONCAT, {}, SEQUENCE, STATIC)
    given = layer(sequence, vector, steps=whole)
    for row in range(2):
        for step in range(4):
            assert given[row, step].tolist() == [*sequence[row, step].tolist(), *vector[row].tolist()]
    assert (layer.shape.width, layer.shape.is_sequence, layer.shape.is_static) == (5, True, False)


def test_what_is_known_first_leaves_steps_independent_and_what_comes_late_does_not(made):
    assert made(CONCAT, {}, SEQUENCE, STATIC).shape.is_local
    assert not made(CONCAT, {}, SEQUENCE, LATE).shape.is_local
    assert not made(ADD, {}, SEQUENCE, LATE).shape.is_local
    assert made(CONCAT, {}, STATIC, STATIC).shape.is_static


def test_the_sum_is_that_of_all_values(made, whole, random):
    values = [values_of(SEQUENCE, random) for _ in range(3)]
    stated = {"type": "add", "inputs": ["one", "two", "three"]}
    given = made(stated, {}, *[SEQUENCE] * 3)(*values, steps=whole)
    torch.testing.assert_close(given, values[0] + values[1] + values[2], rtol=0, atol=1e-6)


def test_a_vector_is_added_at_every_step(made, whole, random):
    sequence, vector = values_of(SEQUENCE, random), values_of(LATE, random)
    given = made(ADD, {}, SEQUENCE, LATE)(sequence, vector, steps=whole)
    expected = torch.stack([sequence[:, step] + vector for step in range(4)], dim=1)
    torch.testing.assert_close(given, expected, rtol=0, atol=0)


def test_a_sum_keeps_directions_that_all_values_have(made):
    both = Shape(4, directions=2)
    assert made(ADD, {}, both, both).shape.directions == 2
    assert made(ADD, {}, both, Shape(4)).shape.directions == 1


def test_what_sums_up_still_does(made):
    assert made(CONCAT, {}, SEQUENCE, Shape(2, is_sequence=False, names=("m", "n"), sums_up=True)).shape.sums_up


def test_values_of_different_widths_cannot_be_added(made):
    with pytest.raises(ManifestError, match=r"'it' adds values of different widths: \[2, 3\]"):
        made(ADD, {}, SEQUENCE, STATIC)


@pytest.mark.parametrize("stated", [CONCAT, ADD])
def test_token_ids_are_not_numbers(made, stated):
    with pytest.raises(ManifestError, match="reads numbers, but 'one' is token ids"):
        made(stated, {}, Shape(2, is_ids=True), SEQUENCE)


def test_one_hot_tokens_beside_others_are_called_after_their_layer(made):
    assert made(CONCAT, {}, Shape(2), SEQUENCE).shape.names == ("one 0", "one 1", "a", "b")


def test_probabilities_beside_others_are_none(made):
    shape = Shape(2, is_probability=True, names=("a", "b"))
    assert not made(CONCAT, {}, shape, shape).shape.is_probability
    assert not made(ADD, {}, shape, shape).shape.is_probability


def test_the_product_is_that_of_all_values(made, whole, random):
    values = [values_of(shape, random) for shape in (SEQUENCE, LATE, SEQUENCE)]
    stated = {"type": "multiply", "inputs": ["one", "two", "three"]}
    layer = made(stated, {}, SEQUENCE, LATE, SEQUENCE)
    expected = values[0] * values[1][:, None] * values[2]
    torch.testing.assert_close(layer(*values, steps=whole), expected)
    assert layer.shape.width == 2
    assert not layer.shape.is_local


def test_values_of_different_widths_are_not_multiplied(made):
    with pytest.raises(ManifestError, match=r"layer 'it' multiplies values of different widths: \[2, 3\]"):
        made({"type": "multiply", "inputs": ["one", "two"]}, {}, SEQUENCE, STATIC)
