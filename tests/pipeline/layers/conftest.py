"""What the tests of layers share: a layer from what a manifest states, and a ragged batch."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.layers.layer import Layer, Shape, Steps, Weights

LENGTHS = (6, 1, 4, 6)
CONFIG = TypeAdapter(LayerConfig)


@pytest.fixture
def made() -> Callable[..., Layer]:
    """`made({"type": "linear"}, module or weights, *shapes_of_inputs)`: the layer `it`, whose weights are `it.*`."""

    def make(stated: dict[str, Any], weights: nn.Module | Mapping[str, Tensor], *given: Shape) -> Layer:
        config = CONFIG.validate_python({"name": "it"} | stated)
        tensors = weights.state_dict() if isinstance(weights, nn.Module) else weights
        named = {f"it.{name}": value for name, value in tensors.items()}
        return config.build(Weights(named, set(), "it", "it"), given).eval()

    return make


@pytest.fixture
def steps() -> Steps:
    return Steps(torch.tensor(LENGTHS), max(LENGTHS), ragged=True)


@pytest.fixture
def ragged(random) -> Callable[..., Tensor]:
    """(4, 6, width) of rows with `LENGTHS` steps; NaN, or other garbage, behind them."""

    def make(width: int, garbage: float = torch.nan) -> Tensor:
        values = torch.randn(len(LENGTHS), max(LENGTHS), width, generator=random)
        for row, length in enumerate(LENGTHS):
            values[row, length:] = garbage
        return values

    return make


@pytest.fixture
def assert_rows() -> Callable[..., None]:
    """Each row's own steps are what the function gives for that row alone, (1, time, width) -> (1, time, width)."""

    def check(given: Tensor, inputs: Tensor, function: Callable[[Tensor], Tensor]) -> None:
        for row, length in enumerate(LENGTHS):
            expected = function(inputs[row : row + 1, :length])[0]
            torch.testing.assert_close(given[row, :length], expected, rtol=1e-5, atol=1e-6)

    return check
