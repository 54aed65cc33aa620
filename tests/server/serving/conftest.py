"""Models in memory, and a device that does what a test tells it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
import torch

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.serving.policy import BatchingPolicy
from gatescope.server.serving.scheduler import Scheduler
from gatescope.server.serving.workers import Workers


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


@pytest.fixture
def schedule() -> Callable[..., object]:
    """`schedule(scenario)` runs `await scenario(scheduler)` with a scheduler that is stopped at the end."""

    def run(
        scenario: Callable[[Scheduler], Awaitable],
        workers: int = 1,
        max_queue_size: int = 1000,
        max_batch_size: int = 64,
    ) -> object:
        async def main() -> object:
            pool = Workers(workers)
            policy = BatchingPolicy(max_batch_size, pool.count, pool.cores)
            scheduler = Scheduler(max_queue_size, policy, pool)
            try:
                return await scenario(scheduler)
            finally:
                scheduler.close()
                await scheduler.stop()

        return asyncio.run(main())

    return run


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
