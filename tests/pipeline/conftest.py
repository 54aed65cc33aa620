from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gatescope.padding import pad
from gatescope.pipeline.features import Feature, FeatureInputs
from gatescope.pipeline.head import HeadConfig
from gatescope.pipeline.output import OutputConfig
from gatescope.pipeline.plain import PlainPipeline
from gatescope.pipeline.query import Answer, Query
from gatescope.pipeline.tokens import TokenInputs
from gatescope.spec import Spec
from gatescope.state import State

VOCABULARY = "abcdefgh"
FEATURES = FeatureInputs(
    kind="features",
    features=(
        Feature(name="demand", mean=10.0, std=4.0),
        Feature(name="day", categories=(1, 2, 3)),
        Feature(name="hour", period=24),
    ),
)
TOKENS = TokenInputs(kind="tokens", vocabulary="characters", characters=VOCABULARY)


@dataclass(frozen=True)
class Case:
    """A pipeline beside the module whose weights it serves."""

    pipeline: PlainPipeline
    module: nn.Module

    def ask(self, sequences: list[Tensor], **wanted: Any) -> Answer:
        """The pipeline's answer to these sequences of raw values or ids."""
        return self.pipeline.answer(Query(*pad(sequences), **wanted))

    def state(self, batch: int, generator: torch.Generator) -> State:
        """A random state."""
        shapes = Spec.from_module(self.module.lstm).state_shapes(batch)
        return State(*(torch.randn(shape, generator=generator) for shape in shapes.values()))


@pytest.fixture
def case(plain) -> Callable[..., Case]:
    """`case("features" | "embedding" | "one-hot", task, steps=…, output={…}, head=…, **arguments_of_nn_lstm)`."""

    def make(
        kind: str = "features",
        task: str | None = "regression",
        *,
        steps: str = "all",
        activation: str = "relu",
        output: dict[str, Any] | None = None,
        head: tuple[int, ...] | None = (2,),
        **arguments: Any,
    ) -> Case:
        inputs = FEATURES if kind == "features" else TOKENS
        size = {"features": FEATURES.width, "embedding": 5, "one-hot": len(VOCABULARY)}[kind]
        module = plain(
            size,
            6,
            head=head,
            embedding=len(VOCABULARY) if kind == "embedding" else None,
            activation={"relu": nn.ReLU, "tanh": nn.Tanh}[activation],
            **arguments,
        )
        config = None if head is None else HeadConfig(steps=steps, activation=activation)
        meaning = OutputConfig(**output or ({"names": ("x", "y")} if task == "regression" else {}))
        size_or_none = None if kind == "features" else len(VOCABULARY)
        return Case(PlainPipeline(inputs, size_or_none, task, config, meaning, module.state_dict()), module)

    return make


@pytest.fixture
def days(random) -> Callable[..., list[Tensor]]:
    """Raw sequences of `FEATURES`, one per length."""

    def make(*lengths: int) -> list[Tensor]:
        return [
            torch.stack(
                (
                    torch.randn(length, generator=random) * 4 + 10,
                    torch.randint(1, 4, (length,), generator=random).float(),
                    torch.randint(0, 24, (length,), generator=random).float(),
                ),
                dim=1,
            )
            for length in lengths
        ]

    return make


@pytest.fixture
def texts(random) -> Callable[..., list[Tensor]]:
    """Token ids, one sequence per length."""

    def make(*lengths: int) -> list[Tensor]:
        return [torch.randint(0, len(VOCABULARY), (length,), generator=random) for length in lengths]

    return make


@pytest.fixture
def encode() -> Callable[[Tensor], Tensor]:
    """(time, 3) raw values of `FEATURES` -> (time, 6), written out by hand."""

    def by_hand(raw: Tensor) -> Tensor:
        rows = []
        for demand, day, hour in raw.double():
            angle = 2 * torch.pi * hour / 24
            one_hot = [float(day == known) for known in (1, 2, 3)]
            rows.append(torch.tensor([(demand - 10) / 4, *one_hot, angle.sin(), angle.cos()]))
        return torch.stack(rows).float()

    return by_hand
