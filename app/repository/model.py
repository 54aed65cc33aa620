"""`Model`: one version of a trained model, loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from app.errors import ManifestError, WeightsError
from app.lstm import LSTMSpec
from app.lstm.method import method_of
from app.pipeline.pipeline import Pipeline
from app.pipeline.vocabulary import Vocabulary
from app.repository.manifest import Manifest, StatedLSTM

FILE = "model.safetensors"


@dataclass(frozen=True)
class Model:
    """A model that is ready to answer."""

    name: str
    version: str
    manifest: Manifest
    vocabulary: Vocabulary | None
    examples: list[dict[str, Any]]
    pipeline: Pipeline

    @property
    def spec(self) -> LSTMSpec:
        """The arguments of its `nn.LSTM`."""
        return self.pipeline.spec

    @property
    def labels(self) -> tuple[str, ...]:
        """What the head's values are scores of; empty for a regression."""
        if self.manifest.task == "next_token" and self.vocabulary is not None:
            return self.vocabulary.entries
        return self.manifest.output.labels

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(parameter.numel() for parameter in self.pipeline.parameters())

    @property
    def trace_method(self) -> str:
        """The way to its gates: `workspace`, `replay` or `loop`."""
        return method_of(self.pipeline.lstm)

    @property
    def device(self) -> str:
        """Where its weights lie."""
        return str(self.pipeline.lstm.weight_ih_l0.device)

    @property
    def dtype(self) -> str:
        """The precision of its weights."""
        return str(self.pipeline.lstm.weight_ih_l0.dtype).removeprefix("torch.")

    @classmethod
    def load(cls, folder: Path, version: str, device: torch.device) -> Model:
        """Read `<folder>/model.toml` and `<folder>/<version>/model.safetensors`.

        Raises:
            ManifestError: the manifest cannot be read, or contradicts the weights.
            WeightsError: the weights cannot be read, are not finite numbers, or are not an `nn.LSTM`'s.
        """
        manifest = Manifest.read(folder)
        vocabulary = manifest.read_vocabulary(folder)
        pipeline = Pipeline(
            manifest.input,
            None if vocabulary is None else len(vocabulary),
            manifest.task,
            manifest.head,
            manifest.output,
            _read_weights(folder / version / FILE),
        )
        _check_stated(manifest.lstm, pipeline.spec)
        return cls(folder.name, version, manifest, vocabulary, manifest.read_examples(folder), pipeline.to(device))


def _read_weights(path: Path) -> dict[str, Tensor]:
    shown = "/".join(path.parts[-3:])
    try:
        path.open("rb").close()  # safetensors calls every file that it may not read a missing one
        weights = load_file(path)
    except OSError as error:
        raise WeightsError(f"{shown} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise WeightsError(f"{shown} cannot be read: {error}") from error
    for name, value in weights.items():
        if not value.is_floating_point():
            raise WeightsError(f"{shown}: '{name}' holds {value.dtype}, not floating-point numbers")
        weights[name] = value.float()
        if not bool(torch.isfinite(weights[name]).all()):
            raise WeightsError(f"{shown}: '{name}' holds NaN or Infinity, or what float32 cannot hold")
    return weights


def _check_stated(stated: StatedLSTM, inferred: LSTMSpec) -> None:
    for name, value in stated.model_dump(exclude_none=True).items():
        if value != getattr(inferred, name):
            raise ManifestError(
                f"the manifest says lstm.{name} = {value}, but the weights say {name} = {getattr(inferred, name)}"
            )
