"""Numeric inputs: named features, as a client posts them, and how they are fed to the LSTM."""

from __future__ import annotations

import math
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from gatescope import gaps
from gatescope.errors import Place
from gatescope.pipeline import calendar
from gatescope.pipeline.config import Config


class Feature(Config):
    """One named feature: a number, a category or a phase."""

    name: str = Field(min_length=1)
    """The feature's name, as errors and replies give it."""

    unit: str = ""
    """Its unit, for people."""

    mean: float = Field(default=0.0, allow_inf_nan=False)
    """A number is fed as (raw − mean) / std."""

    std: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """A number is fed as (raw − mean) / std."""

    categories: tuple[float, ...] = ()
    """For a category: the raw values that it may have, fed one-hot in this order."""

    period: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """For a phase: fed as sin and cos of 2π · raw / period."""

    calendar: str | None = None
    """What the feature is of each step's time, where a request leaves it out: `hour`, `half_hour`, `half_hour_of_week`,
    `weekday`, `month` or `day_of_year`, or with `_sin` or `_cos` behind it the sine or cosine of 2π · number / period.
    """

    missing: Literal["refuse", "hold", "interpolate", "mean", "nan"] | Annotated[float, Field(allow_inf_nan=False)] = (
        "refuse"
    )
    """What null or NaN means: `refuse` (422), `hold` (the value before it), `interpolate` (on the line between the
    values before and behind it), `mean` (the feature's `mean`), a number, or `nan` (a custom module or graph reads
    NaN)."""

    @model_validator(mode="after")
    def _one_kind(self) -> Feature:
        given = self.model_fields_set
        kinds = [bool(given & {"mean", "std"}), "categories" in given, "period" in given]
        if sum(kinds) > 1:
            raise ValueError(f"feature '{self.name}': give mean and std, or categories, or period, not several of them")
        if len(set(map(np.float32, self.categories))) < len(self.categories):
            raise ValueError(f"feature '{self.name}' lists a category twice (requests are float32)")
        return self

    @model_validator(mode="after")
    def _is_of_the_calendar(self) -> Feature:
        if self.calendar is None:
            return self
        if self.calendar not in calendar.NAMES:
            near = get_close_matches(self.calendar, calendar.NAMES, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there is {', '.join(calendar.NAMES)}"
            raise ValueError(f"feature '{self.name}': `calendar` cannot be '{self.calendar}'; {hint}")
        if self.missing != "refuse":
            raise ValueError(f"feature '{self.name}' follows from the time of each step, so it cannot be missing")
        return self

    @model_validator(mode="after")
    def _can_be_missing(self) -> Feature:
        is_number = not self.categories and self.period is None
        if self.missing in {"interpolate", "mean", "nan"} and not is_number:
            raise ValueError(f"feature '{self.name}': `missing` cannot be '{self.missing}' of a category or a phase")
        if self.missing == "mean" and "mean" not in self.model_fields_set:
            raise ValueError(f"feature '{self.name}': `missing` is 'mean', but it states no mean")
        if self.categories and isinstance(self.missing, float) and self.missing not in self.categories:
            raise ValueError(f"feature '{self.name}': `missing` is {self.missing:g}, which is no category of it")
        return self

    @property
    def gap(self) -> gaps.Rule:
        """How a missing value is filled."""
        return self.mean if self.missing == "mean" else self.missing

    @property
    def width(self) -> int:
        """How many of the LSTM's inputs it fills."""
        return len(self.categories) or (2 if self.period else 1)

    @property
    def input_names(self) -> list[str]:
        """The names of the LSTM's inputs that it fills: `rain`, `gauge=7`, or `hour (sin)` and `hour (cos)`."""
        if self.categories:
            return [f"{self.name}={category:.10g}" for category in self.categories]
        return [f"{self.name} (sin)", f"{self.name} (cos)"] if self.period else [self.name]


class Features(Config):
    """Named numbers."""

    features: tuple[Feature, ...] = Field(min_length=1)
    """In the order in which clients post them."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len(set(self.names)) < len(self.names):
            raise ValueError("two features have the same name")
        return self

    @property
    def names(self) -> list[str]:
        """The features' names, in order."""
        return [feature.name for feature in self.features]

    @property
    def width(self) -> int:
        """The LSTM's input size."""
        return sum(feature.width for feature in self.features)

    @property
    def input_names(self) -> list[str]:
        """The names of the LSTM's inputs, in the order in which the encoder fills them."""
        return [name for feature in self.features for name in feature.input_names]

    @cached_property
    def has_categories(self) -> bool:
        """Whether there are values that a feature does not take."""
        return any(feature.categories for feature in self.features)

    @cached_property
    def is_scaled(self) -> bool:
        """Whether raw values are more than passed on, so that their digits beyond float32 count."""
        return any(feature.period or (feature.mean, feature.std) != (0, 1) for feature in self.features)

    def unknown_category(self, sequence: np.ndarray) -> Place | None:
        """The first value of a (time, feature) sequence that is none of its feature's categories; NaN passes."""
        for index, feature in enumerate(self.features):
            if not feature.categories:
                continue
            column = sequence[:, index].astype(np.float32)
            wrong = ~np.isin(column, np.array(feature.categories, dtype=np.float32)) & ~np.isnan(column)
            if wrong.any():
                step = int(wrong.argmax())
                known = ", ".join(f"{category:.10g}" for category in feature.categories)
                message = f"'{feature.name}' is {column[step]:.10g}; the model knows {known}"
                return Place((step, index), message)
        return None


class FeatureInputs(Features):
    """The model takes numbers: (batch, time, feature)."""

    kind: Literal["features"]
    """`features`."""

    masked: float | None = Field(default=None, allow_inf_nan=False)
    """The training skipped a step whose numbers, as they are fed, are all this one: a request must leave it out (422).
    """

    @model_validator(mode="after")
    def _can_be_masked(self) -> Self:
        if self.masked is not None and any(feature.categories or feature.period for feature in self.features):
            raise ValueError("`masked` is compared with numbers, so it goes with features that are numbers only")
        return self

    @cached_property
    def derived(self) -> dict[str, str]:
        """The features that follow from the times of the steps where a request leaves them out, and what each is."""
        return {feature.name: feature.calendar for feature in self.features if feature.calendar is not None}

    @cached_property
    def stated(self) -> list[int]:
        """The indices of the others."""
        return [index for index, feature in enumerate(self.features) if feature.calendar is None]

    @property
    def takes_any(self) -> bool:
        """Whether a request may have whatever numbers, and no gaps."""
        return not self.has_categories and self.masked is None and not self.takes_gaps

    @cached_property
    def missing(self) -> dict[str, str | float]:
        """What a missing value is taken for, of the features of which one may be missing."""
        return {feature.name: feature.missing for feature in self.features if feature.missing != "refuse"}

    @property
    def takes_gaps(self) -> bool:
        """Whether a value may be missing."""
        return bool(self.missing)

    @property
    def fills_from_before(self) -> bool:
        """Whether a gap may be filled with what stood before it, also in an earlier step of a session."""
        return any(rule in gaps.FROM_BEFORE for rule in self.missing.values())

    @property
    def gap_rules(self) -> list[gaps.Rule]:
        """How missing values of each feature are filled."""
        return [feature.gap for feature in self.features]

    def skipped(self, sequence: np.ndarray) -> Place | None:
        """The first step of a (time, feature) sequence that is masked."""
        if self.masked is None:
            return None
        mean, std = (np.array([getattr(feature, name) for feature in self.features]) for name in ("mean", "std"))
        fed = ((sequence - mean) / std).astype(np.float32)
        places = np.flatnonzero((fed == np.float32(self.masked)).all(axis=1))
        if not len(places):
            return None
        message = (
            f"all its numbers are fed as {self.masked:g}, which marks steps that the model skips: leave the step out"
        )
        return Place((int(places[0]),), message)


class StaticInputs(Features):
    """The model takes these numbers once for each sequence: (batch, feature)."""

    @model_validator(mode="after")
    def _are_there(self) -> Self:
        if any(feature.calendar for feature in self.features):
            raise ValueError("`calendar` goes with [[input.features]]: static inputs have no times")
        if any(feature.missing != "refuse" for feature in self.features):
            raise ValueError("`missing` goes with [[input.features]]: static inputs must be there")
        return self


class FeatureEncoder(nn.Module):
    """Raw features -> what the layers read; computed in float64, so that a date in seconds keeps its digits."""

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: Features) -> None:
        super().__init__()
        self.features = inputs.features
        self.width = inputs.width
        self._is_plain = not any(feature.categories or feature.period for feature in self.features)
        self._is_identity = self._is_plain and all((each.mean, each.std) == (0, 1) for each in self.features)
        for name in ("mean", "std"):
            values = torch.tensor([getattr(feature, name) for feature in self.features], dtype=torch.float64)
            self.register_buffer(name, values, persistent=False)

    def forward(self, raw: Tensor) -> Tensor:
        """(…, feature) as posted, float32 or float64 -> (…, width), float32."""
        if self._is_identity:
            return raw.float()
        scaled = (raw.double() - self.mean) / self.std
        if self._is_plain:
            return scaled.float()
        columns = [_encode(feature, raw[..., index], scaled[..., index]) for index, feature in enumerate(self.features)]
        return torch.cat(columns, dim=-1).float()


def _encode(feature: Feature, raw: Tensor, scaled: Tensor) -> Tensor:
    """(…,) -> (…, feature.width), float64."""
    if feature.categories:
        known = torch.tensor(feature.categories, dtype=torch.float32, device=raw.device)
        return (raw[..., None].float() == known).double()
    if feature.period:
        phase = raw.double() * (2 * math.pi / feature.period)
        return torch.stack((phase.sin(), phase.cos()), dim=-1)
    return scaled[..., None]
