"""A request to try, of numbers that mean nothing: always the same ones for the same model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gatescope.errors import WeightsError
from gatescope.pipeline import sample
from gatescope.pipeline.features import Feature, FeatureInputs
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.model import Model
from gatescope.pipeline.vocabulary import Vocabulary

TIME_STEPS = 6


def request(manifest: Manifest, vocabulary: Vocabulary | None) -> dict[str, Any]:
    """A complete predict body of one sequence: features, or ids, or characters as a text."""
    random = torch.Generator().manual_seed(0)
    steps = manifest.trial_steps if manifest.is_program else TIME_STEPS
    if isinstance(manifest.input, FeatureInputs):
        columns = [_values(feature, steps, random) for feature in manifest.input.features]
        body: dict[str, Any] = {"inputs": [[list(step) for step in zip(*columns, strict=True)]]}
        if manifest.static is not None:
            body["static_inputs"] = [[_values(feature, 1, random)[0] for feature in manifest.static.features]]
        return body
    if vocabulary is None:
        raise TypeError("tokens need a vocabulary")
    ids: list[int] = torch.randint(0, len(vocabulary), (steps,), generator=random).tolist()
    ids = [(each + 1) % len(vocabulary) if each == manifest.input.padding else each for each in ids]
    return {"text": vocabulary.join(ids)} if vocabulary.kind == "characters" else {"inputs": [ids]}


def prove(model: Model, body: dict[str, Any]) -> None:
    """See that the model answers this request of ours.

    Raises:
        WeightsError: it answers NaN or Infinity.
    """
    query = sample.to_query(body, model.pipeline, model.vocabulary)
    if not all(np.isfinite(values).all() for values in sample.predicted(model.pipeline, query)):
        raise WeightsError(f"model '{model.name}' answers NaN or Infinity to ordinary numbers")


def _values(feature: Feature, steps: int, random: torch.Generator) -> list[float]:
    """One raw value per time step, such as the feature may have."""
    if feature.categories:
        return [feature.categories[step % len(feature.categories)] for step in range(steps)]
    if feature.period:
        return [step % feature.period for step in range(steps)]
    drawn: list[float] = torch.randn(steps, generator=random).tolist()
    return [float(f"{feature.mean + feature.std * value:.4g}") for value in drawn]
