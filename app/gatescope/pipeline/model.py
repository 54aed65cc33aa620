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

from gatescope.backends.probe import backend_of
from gatescope.errors import ManifestError, ModuleError, WeightsError
from gatescope.pipeline.custom import factory
from gatescope.pipeline.custom.module import CustomPipeline
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.manifest import Manifest, StatedLSTM
from gatescope.pipeline.pipeline import Pipeline
from gatescope.pipeline.plain import PlainPipeline
from gatescope.pipeline.vocabulary import Vocabulary
from gatescope.spec import Spec

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
    def spec(self) -> Spec:
        """The arguments of its `nn.LSTM`, of the first if there are several."""
        return self.pipeline.spec

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What the head's values are scores of; empty for a regression."""
        if self.manifest.task == "next_token" and self.vocabulary is not None:
            return self.vocabulary.entries
        return self.manifest.output.labels

    @cached_property
    def takes_any_numbers(self) -> bool:
        """Whether it is asked with numbers of which it refuses none, and answers each sequence as if it were alone."""
        inputs = self.manifest.input
        takes_any = isinstance(inputs, FeatureInputs) and not inputs.has_categories and self.vocabulary is None
        return takes_any and self.pipeline.rows_are_independent

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
        """The backend that computes its gates: `workspace`, `replay` or `loop`."""
        return backend_of(self.pipeline.lstm)

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
        """Prove its trace backend and compute a few steps, so that the first request need not wait for it."""
        backend_of(self.pipeline.lstm)
        self.fingerprint  # noqa: B018 - computed once, and here nobody waits for it
        for query in self.pipeline.warmup_queries():
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


def load_model(
    folder: Path | str, version: str | None = None, device: torch.device | str = "cpu", *, allow_code: bool = False
) -> Model:
    """A model with all that stands around its recurrent layers, loaded from its folder without a server.

    Args:
        folder: with `model.toml` and `<version>/model.safetensors`.
        version: the one that the manifest pins, else the newest, when not given.
        device: where it is to live.
        allow_code: whether its manifest may name a factory, that is, have code run.

    Raises:
        ManifestError: the manifest cannot be read, or contradicts the weights.
        WeightsError: there are no weights, they cannot be read, are not finite numbers, or are not the module's.
        ModuleError: the manifest names a factory, and that may not be, or its module cannot be served.
    """
    folder = Path(folder).resolve()
    wanted = version or Manifest.read(folder).default_version
    if wanted is None:
        versions = versions_in(folder)
        if not versions:
            raise WeightsError(f"it has no weights: {folder.name}/<version>/{FILE} is missing")
        wanted = versions[-1]
    return Model.load(folder, wanted, torch.device(device), allow_code=allow_code)


def versions_in(folder: Path) -> list[str]:
    """The versions in a model's folder, the oldest first; raises `OSError`."""
    return sorted((path.name for path in folders_with(FILE, folder)), key=_age)


def folders_with(file: str, folder: Path) -> list[Path]:
    """Every folder in this one that has such a file, or cannot be looked into: what is hidden must not go missing."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.is_dir() and _may_have(file, path))


def _may_have(file: str, folder: Path) -> bool:
    try:
        return (folder / file).exists()
    except OSError:
        return True


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


def _check_stated(stated: StatedLSTM, inferred: Spec) -> None:
    for name, value in stated.model_dump(exclude_none=True).items():
        if value != getattr(inferred, name):
            raise ManifestError(
                f"the manifest says lstm.{name} = {value}, but the weights say {name} = {getattr(inferred, name)}"
            )


def _age(version: str) -> tuple[int, str]:
    """Versions that are numbers sort as numbers, behind all others."""
    return (int(version), version) if version.isdecimal() else (-1, version)
