"""What a head's values mean: quantities with names, or scores of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor, nn

from gatescope.pipeline.config import Config

Task = Literal["regression", "classification", "tagging", "next_token"]


class OutputConfig(Config):
    """The names of a regression's outputs or the labels of a classification, and how a prediction is read."""

    names: tuple[str, ...] = ()
    """Regression: the name of each output. With `predicts = "next_step"`, an output named like an input feature is fed
    back as that feature when `horizon` asks for further steps."""

    mean: tuple[FiniteFloat, ...] = ()
    """Regression: an output is head · std + mean, one number per name; 0 when left out."""

    std: tuple[Annotated[FiniteFloat, Field(gt=0)], ...] = ()
    """Regression: an output is head · std + mean, one number per name; 1 when left out."""

    minimum: tuple[FiniteFloat, ...] = ()
    """Regression: the least that each output can be, one number per name."""

    predicts: Literal["same_step", "next_step"] = "same_step"
    """Whether the prediction at step t is of step t or of step t + 1."""

    labels: tuple[str, ...] = ()
    """Classification and tagging: the label of each head value. Next-token models take their vocabulary."""

    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Next token: with `horizon`, tokens are drawn at this temperature; 0 takes the likeliest."""

    seed: int = Field(default=0, ge=0)
    """Next token: the seed of the draw, so that a request has one answer."""

    @model_validator(mode="after")
    def _sizes_agree(self) -> OutputConfig:
        for name in ("names", "labels"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"output.{name} has an entry twice")
        for name in ("mean", "std", "minimum"):
            given = getattr(self, name)
            if given and len(given) != len(self.names):
                raise ValueError(f"output.{name} has {len(given)} numbers for {len(self.names)} names")
        return self

    def fed_back(self, features: Sequence[str]) -> dict[int, int]:
        """Input feature -> output of the same name, by index; empty where predictions are of the same step."""
        if self.predicts == "same_step":
            return {}
        return {features.index(name): index for index, name in enumerate(self.names) if name in features}


class OutputScale(nn.Module):
    """A regression head's values -> quantities in their units."""

    mean: Tensor
    std: Tensor
    minimum: Tensor

    def __init__(self, config: OutputConfig) -> None:
        super().__init__()
        count = len(config.names)
        self._is_identity = not (config.mean or config.std or config.minimum)
        for name, default in (("mean", 0.0), ("std", 1.0), ("minimum", -torch.inf)):
            values = torch.tensor(getattr(config, name) or [default] * count)
            self.register_buffer(name, values, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """(…, output) -> (…, output)."""
        if self._is_identity:
            return values
        return torch.maximum(values * self.std + self.mean, self.minimum)
