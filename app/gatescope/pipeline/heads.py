"""Heads: what the values of a layer mean, quantities with names or scores of labels, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor, nn

from gatescope.pipeline.config import Config
from gatescope.pipeline.layers.crf import CRF
from gatescope.pipeline.layers.layer import Shape
from gatescope.pipeline.sampling import LARGEST_SEED, Sampling
from gatescope.tables.sequences import QUANTITIES

Task = Literal["regression", "quantile", "classification", "tagging", "binary", "multi_label", "next_token"]

FIRST = "prediction"
"""What the first head is called in replies, whatever the manifest calls it."""

_TWO = 2  # labels


class HeadConfig(Config):
    """One prediction: the layer whose values it is, its task, and what the values are called."""

    name: str = Field(default=FIRST, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """What it is called; the first one is `prediction` in replies, others are `heads.<name>`."""

    layer: str | None = None
    """The layer whose values are predicted; the last one when left out."""

    task: Task
    """What the values mean: `regression`, `quantile`, `classification` (one label per sequence), `tagging` (one per
    step), `binary` (one value for two labels), `multi_label` (labels that may go together) or `next_token`."""

    names: tuple[str, ...] = ()
    """Regression and quantile: the name of each output. With `predicts = "next_step"`, an output named like an input
    feature is fed back as that feature when `horizon` asks for further steps."""

    units: tuple[str, ...] = ()
    """Regression and quantile: the unit of each output, for people."""

    mean: tuple[FiniteFloat, ...] = ()
    """Regression and quantile: an output is value · std + mean, one number per name; 0 when left out."""

    std: tuple[Annotated[FiniteFloat, Field(gt=0)], ...] = ()
    """Regression and quantile: an output is value · std + mean, one number per name; 1 when left out."""

    minimum: tuple[FiniteFloat, ...] = ()
    """Regression and quantile: the least that each output can be, one number per name."""

    predicts: Literal["same_step", "next_step"] = "same_step"
    """Whether the prediction at step t is of step t or of step t + 1."""

    labels: tuple[str, ...] = ()
    """The label of each value; of a binary task both, the positive one second. Next-token models take their vocabulary.
    """

    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Quantile: which ones, in ascending order; the values of each name stand side by side."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Binary and multi-label: the probability from which on a label is given."""

    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Next token: with `horizon`, tokens are drawn at this temperature, where the request states none; 0 takes the
    likeliest."""

    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    """Next token: the seed of the draw, where the request states none, so that a request has one answer."""

    @model_validator(mode="after")
    def _fields_agree(self) -> HeadConfig:
        for name in ("names", "labels"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name} has an entry twice")
        for name in ("units", "mean", "std", "minimum"):
            given = getattr(self, name)
            if given and len(given) != len(self.names):
                raise ValueError(f"{name} has {len(given)} entries for {len(self.names)} names")
        if self.task in QUANTITIES and not self.names:
            raise ValueError(f"a {self.task} needs names")
        if self.task in {"classification", "tagging", "multi_label"} and not self.labels:
            raise ValueError(f"{self.task} needs labels")
        if self.task == "binary" and len(self.labels) != _TWO:
            raise ValueError(f"a binary task has two labels, the positive one second; there are {len(self.labels)}")
        if (self.task == "quantile") != bool(self.quantiles):
            raise ValueError("`quantiles` goes with a quantile task, and only with it")
        if list(self.quantiles) != sorted(set(self.quantiles)):
            raise ValueError("`quantiles` must be in ascending order")
        return self

    @property
    def is_per_step(self) -> bool | None:
        """Whether the task wants a prediction per time step; None where both are possible."""
        return {"tagging": True, "next_token": True, "classification": False}.get(self.task)

    @property
    def sampling(self) -> Sampling:
        """How a next-token head draws where a request does not say."""
        return Sampling(self.temperature, seed=self.seed)

    def count(self, vocabulary_size: int | None) -> tuple[str, int | None]:
        """What its values stand for, and how many there must be."""
        if self.task == "next_token":
            return "vocabulary entries", vocabulary_size
        if self.task == "binary":
            return "value of a binary task", 1
        if self.task in QUANTITIES:
            return "names", len(self.names) * max(1, len(self.quantiles))
        return "labels", len(self.labels)

    def fed_back(self, features: Sequence[str]) -> dict[int, int]:
        """Input feature -> output of the same name, by index; empty where predictions are of the same step."""
        if self.predicts == "same_step" or self.task != "regression":
            return {}
        return {features.index(name): index for index, name in enumerate(self.names) if name in features}


class Head(nn.Module):
    """How a layer's values become what is answered.

    Args:
        config: of the head.
        shape: of the layer's values.
        crf: the layer that finds the best path, where it is one.
    """

    mean: Tensor
    std: Tensor
    minimum: Tensor

    def __init__(self, config: HeadConfig, shape: Shape, crf: CRF | None = None) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self._crf = (crf,)  # not a part of this module
        self._is_scaled = bool(config.mean or config.std or config.minimum)
        each = max(1, len(config.quantiles))
        for name, default in (("mean", 0.0), ("std", 1.0), ("minimum", -torch.inf)):
            given = getattr(config, name) or [default] * len(config.names)
            values = torch.tensor([value for value in given for _ in range(each)], dtype=torch.float32)
            self.register_buffer(name, values, persistent=False)

    @property
    def has_choices(self) -> bool:
        """Whether its values are scores of labels or tokens."""
        return self.config.task not in QUANTITIES

    def scaled(self, values: Tensor) -> Tensor:
        """(…, value) as the layer gives them -> (…, value) in the units of the outputs."""
        if not self._is_scaled:
            return values
        return torch.maximum(values * self.std + self.mean, self.minimum)

    def choices(self, values: Tensor, lengths: Tensor) -> Tensor | None:
        """What the values say: None of quantities; else an id per step or sequence, (batch, …).

        Of a multi-label task it is (batch, …, label), true for those that are given.

        Args:
            values: (batch, …, value).
            lengths: (batch,).
        """
        task = self.config.task
        if not self.has_choices:
            return None
        if self._crf[0] is not None:
            return self._crf[0].decode(values, lengths)
        if task == "binary":
            return (self._positive(values)[..., 0] >= self.config.threshold).long()
        if task == "multi_label":
            return self._positive(values) >= self.config.threshold
        return values.argmax(dim=-1)

    def scores(self, values: Tensor) -> Tensor:
        """(…, value) -> (…, value), logits, also where the values are probabilities."""
        return values.log() if self.shape.is_probability else values

    def probabilities(self, values: Tensor) -> Tensor | None:
        """(…, value) -> (…, label); None of quantities, and of scores that are a path's."""
        task = self.config.task
        if not self.has_choices or self._crf[0] is not None:
            return None
        if task == "binary":
            positive = self._positive(values)
            return torch.cat([1 - positive, positive], dim=-1)
        if task == "multi_label":
            return self._positive(values)
        return values if self.shape.is_probability else values.softmax(dim=-1)

    def _positive(self, values: Tensor) -> Tensor:
        return values if self.shape.is_probability else values.sigmoid()
