"""Models in memory, and a device that does what a test tells it."""

import threading
from collections.abc import Callable

import pytest
import torch

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query


@pytest.fixture
def load(model_folder) -> Callable[..., Model]:
    """`load(…)` takes the arguments of `model_folder`, and answers the model."""

    def make(*arguments, **named) -> Model:
        folder = model_folder(*arguments, **named)
        return Model.load(folder.path, "1", torch.device("cpu"))

    return make


@pytest.fixture
def ask(random) -> Callable[..., Query]:
    """`ask(5, 3, **fields)`: a query of two sequences of these lengths, with random features."""

    def make(*lengths: int, width: int = 3, **fields) -> Query:
        inputs = torch.zeros(len(lengths), max(lengths), width)
        for row, length in enumerate(lengths):
            inputs[row, :length] = torch.randn(length, width, generator=random)
        return Query(inputs, torch.tensor(lengths), **fields)

    return make


class Gate:
    """Holds the device up, so that queries gather."""

    def __init__(self) -> None:
        self.open, self.reached = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.open.wait(10)


@pytest.fixture
def gate() -> Gate:
    return Gate()
