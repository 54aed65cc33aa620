"""Token ids -> numbers: `embedding` and `one_hot`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.nn.functional import embedding, one_hot

from gatescope.errors import ManifestError
from gatescope.pipeline.layers.layer import Layer, LayerConfig, Shape, Steps, Weights, parameter


class EmbeddingConfig(LayerConfig):
    """`nn.Embedding`: `weight` (tokens, width)."""

    type: Literal["embedding"]
    """`embedding`."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:
        """The table, which has at least as many rows as there are tokens."""
        ids = _ids(self, given)
        weight = weights.take("weight", None, None)
        if len(weight) < ids.width:
            raise ManifestError(
                f"'{weights.full('weight')}' has {len(weight)} rows, but the vocabulary has {ids.width} entries"
            )
        return Embedding(weight, ids.numbered(self.name, weight.shape[1]))


class OneHotConfig(LayerConfig):
    """Each token as a vector of zeros with a one at its id."""

    type: Literal["one_hot"]
    """`one_hot`."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:  # noqa: ARG002 - it has no weights
        """As wide as the vocabulary."""
        ids = _ids(self, given)
        return OneHot(Shape(ids.width, names=None))


class Embedding(Layer):
    """(batch, time) ids -> (batch, time, width)."""

    def __init__(self, weight: Tensor, shape: Shape) -> None:
        super().__init__()
        self.weight, self.shape = parameter(weight), shape

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:  # noqa: ARG002 - each step for itself
        """Each id's row."""
        return embedding(values[0], self.weight)


class OneHot(Layer):
    """(batch, time) ids -> (batch, time, tokens)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:  # noqa: ARG002 - each step for itself
        """A one at each id."""
        return one_hot(values[0], self.shape.width).float()


def _ids(config: LayerConfig, given: Sequence[Shape]) -> Shape:
    if len(given) != 1 or not given[0].is_ids:
        raise ManifestError(f"layer '{config.name}' reads token ids, which the model's inputs are not")
    return given[0]
