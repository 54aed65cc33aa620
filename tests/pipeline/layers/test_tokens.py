import pytest
import torch
from torch import nn

from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.layers.layer import Shape

IDS = torch.tensor([[2, 0, 1], [1, 1, 0]])
TOKENS = Shape(3, is_ids=True)
EMBEDDING = {"type": "embedding"}


def test_ids_are_looked_up_as_nn_embedding_does(made, steps):
    module = nn.Embedding(3, 5)
    layer = made(EMBEDDING, module, TOKENS)
    assert torch.equal(layer(IDS, steps=steps), module(IDS))
    assert layer.shape == Shape(5, names=tuple(f"it {index}" for index in range(5)))


def test_an_embedding_may_have_spare_rows(made, steps):
    module = nn.Embedding(9, 2)
    assert torch.equal(made(EMBEDDING, module, TOKENS)(IDS, steps=steps), module(IDS))


def test_an_embedding_with_fewer_rows_than_tokens_shows_both(made):
    with pytest.raises(ManifestError, match=r"'it\.weight' has 2 rows, but the vocabulary has 3 entries"):
        made(EMBEDDING, nn.Embedding(2, 5), TOKENS)


@pytest.mark.parametrize("shape", [(3,), (3, 5, 1)])
def test_an_embedding_is_a_matrix(made, shape):
    with pytest.raises(WeightsError, match=r"'it\.weight' has shape .*needs any × any"):
        made(EMBEDDING, {"weight": torch.zeros(shape)}, TOKENS)


def test_one_hot_tokens_have_a_one_at_their_id(made, steps):
    layer = made({"type": "one_hot"}, {}, TOKENS)
    values = layer(IDS, steps=steps)
    assert values[0].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert values.dtype == torch.float32
    assert layer.shape.names is None  # the vocabulary names them


@pytest.mark.parametrize("kind", ["embedding", "one_hot"])
def test_numbers_are_no_token_ids(made, kind):
    with pytest.raises(ManifestError, match="'it' reads token ids, which the model's inputs are not"):
        made({"type": kind}, nn.Embedding(3, 5), Shape(3))
