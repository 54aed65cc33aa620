"""`Model`: one version of a trained model, loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from app.errors import ManifestError, ModuleError, WeightsError
from app.lstm import LSTMSpec
from app.lstm.method import method_of
from app.pipeline.custom import CustomPipeline
from app.pipeline.pipeline import Pipeline
from app.pipeline.plain import PlainPipeline
from app.pipeline.vocabulary import Vocabulary
from app.repository import factory
from app.repository.manifest import Manifest, StatedLSTM

FILE = "model.safetensors"
FINGERPRINT_BYTES = 16


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is ready to answer; it is equal to itself alone."""

    name: str
    version: str
    manifest: Manifest
    vocabulary: Vocabulary | None
    examples: list[dict[str, Any]]
    pipeline: Pipeline

    @cached_property
    def spec(self) -> LSTMSpec:
        """The arguments of its `nn.LSTM`, of the first if there are several."""
        return self.pipeline.spec

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What the head's values are scores of; empty for a regression."""
        if self.manifest.task == "next_token" and self.vocabulary is not None:
            return self.vocabulary.entries
        return self.manifest.output.labels

    @property
    def reads_text(self) -> bool:
        """Whether it takes text in place of numbers."""
        return self.vocabulary is not None and self.vocabulary.reads_text

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

    @cached_property
    def fingerprint(self) -> str:
        """Of its manifest, vocabulary and weights: equal for two models that compute the same in the same way."""
        made = blake2b(self.manifest.model_dump_json().encode(), digest_size=FINGERPRINT_BYTES)
        made.update("\0".join(self.vocabulary.entries if self.vocabulary else ()).encode())
        for name, value in self.pipeline.state_dict().items():
            made.update(name.encode())
            made.update(value.cpu().reshape(-1).view(torch.uint8).numpy().data)
        return made.hexdigest()

    def warm(self) -> None:
        """Prove the way to its gates and compute a few steps, so that the first request need not wait for it."""
        method_of(self.pipeline.lstm)
        self.fingerprint  # noqa: B018 - computed once, and here nobody waits for it
        for query in self.pipeline.rehearsals():
            self.pipeline.answer(query)

    @classmethod
    def load(cls, folder: Path, version: str, device: torch.device, *, allow_code: bool = False) -> Model:
        """Read `<folder>/model.toml` and `<folder>/<version>/model.safetensors`.

        Args:
            folder: of the model.
            version: which one.
            device: where it is to live.
            allow_code: whether its manifest may name a factory, that is, have code run.

        Raises:
            ManifestError: the manifest cannot be read, or contradicts the weights.
            WeightsError: the weights cannot be read, are not finite numbers, or are not the module's.
            ModuleError: the manifest names a factory, and that may not be, or its module cannot be served.
        """
        manifest = Manifest.read(folder)
        vocabulary = manifest.read_vocabulary(folder)
        size = None if vocabulary is None else len(vocabulary)
        path = folder / version / FILE
        if manifest.factory is None:
            pipeline = _plain(manifest, size, path)
        elif allow_code:
            pipeline = _custom(manifest, manifest.factory, size, path, device)
        else:
            raise ModuleError(
                f"its manifest names the factory '{manifest.factory}', and this server runs no code for models: set "
                "GATESCOPE_ALLOW_CODE=true if everyone who can write a manifest here may run any code as this server"
            )
        _check_stated(manifest.lstm, pipeline.spec)
        return cls(folder.name, version, manifest, vocabulary, manifest.read_examples(folder), pipeline.to(device))


def _plain(manifest: Manifest, vocabulary_size: int | None, path: Path) -> Pipeline:
    weights = _read_weights(path)
    for name, value in weights.items():
        if not value.is_floating_point():
            raise WeightsError(f"{_shown(path)}: '{name}' holds {value.dtype}, not floating-point numbers")
    return PlainPipeline(manifest.input, vocabulary_size, manifest.task, manifest.head, manifest.output, weights)


def _custom(manifest: Manifest, named: str, vocabulary_size: int | None, path: Path, device: torch.device) -> Pipeline:
    module = factory.build(named, manifest.factory_arguments, _read_weights(path), path.parents[2]).to(device)
    return CustomPipeline(manifest.input, vocabulary_size, manifest.task, manifest.output, module, manifest.trial_steps)


def _shown(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of the file, those of floating-point numbers as float32."""
    shown = _shown(path)
    try:
        weights = load(path.read_bytes())  # not mapped into memory: whoever writes to the file must not change a model
    except OSError as error:
        raise WeightsError(f"{shown} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise WeightsError(f"{shown} cannot be read: {error}") from error
    for name, value in weights.items():
        weights[name] = value.float() if value.is_floating_point() else value
        if not bool(torch.isfinite(weights[name]).all()):
            raise WeightsError(f"{shown}: '{name}' holds NaN or Infinity, or what float32 cannot hold")
    return weights


def _check_stated(stated: StatedLSTM, inferred: LSTMSpec) -> None:
    for name, value in stated.model_dump(exclude_none=True).items():
        if value != getattr(inferred, name):
            raise ManifestError(
                f"the manifest says lstm.{name} = {value}, but the weights say {name} = {getattr(inferred, name)}"
            )
