"""`ManifestV1`: manifests of format 1, which have fixed places for an embedding, an LSTM and a head."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, ValidationError, model_validator
from torch import Tensor

from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.config import Config
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.layers.recurrent import Stated
from gatescope.pipeline.manifest import Manifest, Shared
from gatescope.pipeline.sampling import LARGEST_SEED

TaskV1 = Literal["regression", "classification", "tagging", "next_token"]

_HEAD_LAYER = re.compile(r"head\.(\d+)\.weight")


class HeadV1(Config):
    """A linear layer, or several with an activation between; how many and how wide stands in the weights."""

    steps: Literal["all", "last", "final", "mean", "max"] = "all"
    activation: Literal["relu", "tanh"] = "relu"


class OutputV1(Config):
    """The names of a regression's outputs or the labels of a classification, and how a prediction is read."""

    names: tuple[str, ...] = ()
    mean: tuple[FiniteFloat, ...] = ()
    std: tuple[Annotated[FiniteFloat, Field(gt=0)], ...] = ()
    minimum: tuple[FiniteFloat, ...] = ()
    predicts: Literal["same_step", "next_step"] = "same_step"
    labels: tuple[str, ...] = ()
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)


class ManifestV1(Shared):
    """A manifest without `format`, or with `format = 1`."""

    format: Literal[1] = 1
    task: TaskV1 | None = None
    lstm: Stated = Stated()
    head: HeadV1 | None = None
    output: OutputV1 = OutputV1()

    @model_validator(mode="after")
    def _parts_agree(self) -> ManifestV1:
        if self.factory is None:
            if surplus := sorted(self.model_fields_set & {"factory_arguments", "trial_steps"}):
                raise ValueError(f"`{surplus[0]}` goes with `factory`, and only with it")
            if (self.task is None) != (self.head is None):
                raise ValueError("`task` and [head] go together: state both, or neither to serve the LSTM alone")
        elif self.head is not None:
            raise ValueError("the module that `factory` makes has its own head: leave [head] out")
        if self.head is not None and self.task in {"tagging", "next_token"} and self.head.steps != "all":
            raise ValueError(
                f"{self.task} gives a prediction per time step: head.steps must be 'all', not '{self.head.steps}'"
            )
        if self.head is not None and self.task == "classification" and self.head.steps == "all":
            raise ValueError("classification gives one label per sequence: head.steps must be last, final, mean or max")
        # what the head means is checked by the manifest that this becomes; the layers of a plain one need the weights
        self._translated([] if self.factory is not None else [{"name": "lstm", "type": "lstm"}])
        return self

    def translated(self, weights: Mapping[str, Tensor]) -> Manifest:
        """The same in format 2, for a version with these weights.

        Raises:
            ManifestError: what it states of the LSTM cannot be.
            WeightsError: there is a [head], and no weights of one, or they do not fit each other.
        """
        return self._translated([] if self.factory is not None else list(self._layers(weights)))

    def _translated(self, layers: list[dict[str, Any]]) -> Manifest:
        shared = {name: getattr(self, name) for name in Shared.model_fields if name in self.model_fields_set}
        heads = []
        if self.task is not None:
            heads.append({"task": self.task, **self.output.model_dump(exclude_unset=True)})
        try:
            return Manifest.model_validate({**shared, "layers": layers, "heads": heads})
        except ValidationError as error:
            raise ValueError(first_problem(error).replace("heads.0", "output")) from error

    def _layers(self, weights: Mapping[str, Tensor]) -> Iterator[dict[str, Any]]:
        if not isinstance(self.input, FeatureInputs):
            yield {"name": "embedding", "type": "embedding" if "embedding.weight" in weights else "one_hot"}
        yield {"name": "lstm", "type": "lstm", **self.lstm.model_dump(exclude_none=True)}
        if self.head is None:
            return
        if self.head.steps != "all":
            yield {"name": "pool", "type": "pool", "how": self.head.steps}
        numbers = sorted(int(match[1]) for name in weights if (match := _HEAD_LAYER.fullmatch(name)))
        if not numbers:
            raise WeightsError("the manifest has a [head], but the weights have no 'head.0.weight'")
        yield {"name": f"head.{numbers[0]}", "type": "linear"}
        for before, number in pairwise(numbers):
            yield {"name": f"activation.{before}", "type": "activation", "function": self.head.activation}
            yield {"name": f"head.{number}", "type": "linear"}


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, with its place."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


__all__ = ["ManifestError", "ManifestV1", "first_problem"]
