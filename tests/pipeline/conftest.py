"""What the tests of pipelines share: pipelines beside the modules whose weights they serve, and raw inputs."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from gatescope.errors import ManifestError
from gatescope.padding import pad
from gatescope.pipeline.features import Feature, FeatureInputs, StaticInputs
from gatescope.pipeline.heads import HeadConfig
from gatescope.pipeline.layered import LayeredPipeline
from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.manifest_file import read_manifest
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

    pipeline: LayeredPipeline
    module: nn.Module

    def ask(self, sequences: list[Tensor], **wanted: Any) -> Answer:
        """The pipeline's answer to these sequences of raw values or ids."""
        return self.pipeline.answer(Query(*pad(sequences), **wanted))

    def state(self, batch: int, generator: torch.Generator) -> State:
        """A random state."""
        shapes = Spec.from_module(self.module.lstm).state_shapes(batch)
        return State(*(torch.randn(shape, generator=generator) for shape in shapes.values()))


@pytest.fixture(scope="session")
def build_once() -> Callable[..., LayeredPipeline]:
    """The same as `build`, for tests that hypothesis runs many times."""
    return _build


@pytest.fixture
def build() -> Callable[..., LayeredPipeline]:
    """`build(layers, weights, heads, inputs=…, static=…)`: layers and heads as `model.toml` states them.

    `layers` may name types alone: `["lstm", "linear"]`. Without inputs, as many plain features as `inputs` says.
    """

    return _build


def _build(
    layers: Sequence[dict[str, Any] | str],
    weights: nn.Module | Mapping[str, Tensor],
    heads: Sequence[dict[str, Any]] = (),
    inputs: FeatureInputs | TokenInputs | int = 3,
    static: StaticInputs | int | None = None,
    ignored: Sequence[str] = (),
) -> LayeredPipeline:
    stated = [{"name": each, "type": each} if isinstance(each, str) else each for each in layers]
    if isinstance(inputs, int):
        inputs = FeatureInputs(kind="features", features=plain_features(inputs))
    if isinstance(static, int):
        static = StaticInputs(features=plain_features(static))
    return LayeredPipeline(
        inputs,
        static,
        len(inputs.characters) if isinstance(inputs, TokenInputs) else None,
        TypeAdapter(list[LayerConfig]).validate_python(stated),
        [HeadConfig.model_validate(head) for head in heads],
        weights.state_dict() if isinstance(weights, nn.Module) else weights,
        ignored=ignored,
    )


def plain_features(count: int) -> tuple[Feature, ...]:
    return tuple(Feature(name=f"f{index}") for index in range(count))


def names(count: int) -> list[str]:
    return [f"y{index}" for index in range(count)]


@pytest.fixture
def regression() -> Callable[..., dict[str, Any]]:
    """`regression(2)`: a head of two quantities."""

    def make(count: int, layer: str | None = None, **further: Any) -> dict[str, Any]:
        return {"task": "regression", "names": names(count)} | ({"layer": layer} if layer else {}) | further

    return make


@pytest.fixture
def case(plain, build) -> Callable[..., Case]:
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
        size = {"features": FEATURES.width, "embedding": 5, "one-hot": len(VOCABULARY)}[kind]
        module = plain(
            size,
            6,
            head=head,
            embedding=len(VOCABULARY) if kind == "embedding" else None,
            activation={"relu": nn.ReLU, "tanh": nn.Tanh}[activation],
            **arguments,
        )
        layers: list[dict[str, Any]] = [{"name": "lstm", "type": "lstm"}]
        if kind != "features":
            layers.insert(0, {"name": "embedding", "type": kind.replace("-", "_")})
        if steps != "all":
            layers.append({"name": "pool", "type": "pool", "how": steps})
        for before, after in pairwise([None, *range(0, 2 * len(head or ()), 2)]):
            if before is not None:
                layers.append({"name": f"activation.{before}", "type": "activation", "function": activation})
            layers.append({"name": f"head.{after}", "type": "linear"})
        said = output or ({"names": ("x", "y")} if task == "regression" else {})
        heads = [] if task is None else [{"task": task, **said}]
        return Case(build(layers, module, heads, FEATURES if kind == "features" else TOKENS), module)

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


@pytest.fixture
def folder(tmp_path) -> Callable[..., Path]:
    """`folder(manifest, week_json="…")`: write a manifest and files beside it; the folder they stand in."""
    fresh = itertools.count()

    def write(manifest: str | bytes, **files: str | bytes) -> Path:
        path = tmp_path / f"{next(fresh)}" / "river"
        path.mkdir(parents=True)
        for name, content in {"model_toml": manifest, **files}.items():
            (path / name.replace("_", ".")).write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def refusal(folder) -> Callable[..., str]:
    """`refusal(manifest, **files)`: why such a manifest is refused."""

    def why(manifest: str | bytes, **files: str | bytes) -> str:
        with pytest.raises(ManifestError) as refused:
            read_manifest(folder(manifest, **files))
        return str(refused.value)

    return why
