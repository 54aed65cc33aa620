"""`Model`: one version of a trained model, loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from gatescope.errors import ModuleError, WeightsError
from gatescope.pipeline import graph_files
from gatescope.pipeline.custom import factory
from gatescope.pipeline.custom.program import CustomProgram
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.finite import is_finite
from gatescope.pipeline.graph_files import open_graph
from gatescope.pipeline.layered import LayeredPipeline
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.manifest_file import read_manifest
from gatescope.pipeline.manifest_v1 import ManifestV1
from gatescope.pipeline.pipeline import Pipeline
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.pipeline import ProgramPipeline
from gatescope.pipeline.sample import OF_A_GRAPH, Sample, Verified, verify
from gatescope.pipeline.vocabulary import Vocabulary
from gatescope.spec import Spec

FILE = "model.safetensors"
VERSION_FILES = (FILE, *graph_files.NAMES.values())
"""One of these makes a folder a version."""

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
    verified: Verified | None = None
    """How its predictions were compared with numbers of the training code; None where they were not."""

    @cached_property
    def spec(self) -> Spec:
        """The arguments of its `nn.LSTM`, of the first if there are several."""
        return self.pipeline.spec

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What the head's values are scores of; empty for a regression."""
        return self.labels_of(None)

    def labels_of(self, head: str | None) -> tuple[str, ...]:
        """The same of the head of this name, of the first where none is named."""
        heads = self.manifest.heads
        config = self.manifest.head if head is None else next(each for each in heads if each.name == head)
        if config is None:
            return ()
        if config.task == "next_token" and self.vocabulary is not None:
            return self.vocabulary.entries
        return config.labels

    @cached_property
    def takes_any_numbers(self) -> bool:
        """Whether it is asked with numbers of which it refuses none, and answers each sequence as if it were alone."""
        inputs = self.manifest.input
        takes_any = isinstance(inputs, FeatureInputs) and inputs.takes_any and self.vocabulary is None
        return takes_any and self.pipeline.rows_are_independent

    @property
    def reads_text(self) -> bool:
        """Whether it takes text in place of numbers."""
        return self.vocabulary is not None and self.vocabulary.reads_text

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return self.pipeline.parameter_count

    @property
    def trace_method(self) -> str:
        """The backend that computes its gates: `workspace`, `replay`, `stepwise` or `loop`."""
        return self.pipeline.trace_method

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
    def load(
        cls,
        folder: Path,
        version: str,
        device: torch.device,
        *,
        allow_code: bool = False,
        manifest: Manifest | ManifestV1 | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Model:
        """Read `<folder>/model.toml` and `<folder>/<version>/model.safetensors`.

        Args:
            folder: of the model.
            version: which one.
            device: where it is to live.
            allow_code: whether its manifest may name a factory, that is, have code run.
            manifest: in place of the one in the folder.
            weights: finite ones in float32, in place of those in the file.

        Raises:
            ManifestError: the manifest or the sample cannot be read, or contradicts the weights.
            WeightsError: the weights cannot be read, are not finite numbers, are not the module's, or give other
                predictions than the sample.
            ModuleError: the manifest names a factory, and that may not be, or its module cannot be served.
        """
        stated = manifest or read_manifest(folder)
        if stated.factory is not None and not allow_code:
            raise ModuleError(
                f"its manifest names the factory '{stated.factory}', and this server runs no code for models: set "
                "GATESCOPE_ALLOW_CODE=true if everyone who can write a manifest here may run any code as this server"
            )
        vocabulary = stated.read_vocabulary(folder)
        size = None if vocabulary is None else len(vocabulary)
        if isinstance(stated, Manifest) and stated.graph is not None:
            manifest = stated
            pipeline: Pipeline = _graph_pipeline(stated, stated.graph, size, folder / version, device)
        else:
            weights = _read_weights(folder / version / FILE) if weights is None else weights
            manifest = stated.translated(weights) if isinstance(stated, ManifestV1) else stated
            pipeline = _pipeline(manifest, size, weights, folder, device).to(device)
        pipeline.window = manifest.window
        if isinstance(stated, ManifestV1):
            stated.lstm.check("lstm", pipeline.spec)
        examples, sample = manifest.read_examples(folder), Sample.read(folder / version)
        verified = None if manifest.graph is None or manifest.head is None else OF_A_GRAPH
        if sample is not None:
            verified = verify(sample, pipeline, vocabulary)
            examples.append(sample.example)  # behind those that were chosen
        return cls(folder.name, version, manifest, vocabulary, examples, pipeline, verified)


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
    wanted = version or read_manifest(folder).default_version
    if wanted is None:
        versions = versions_in(folder)
        if not versions:
            raise WeightsError(f"it has no weights: {folder.name}/<version>/{FILE} is missing")
        wanted = versions[-1]
    return Model.load(folder, wanted, torch.device(device), allow_code=allow_code)


def versions_in(folder: Path) -> list[str]:
    """The versions in a model's folder, the oldest first; raises `OSError`."""
    return sorted((path.name for path in folders_with(VERSION_FILES, folder)), key=_age)


def folders_with(files: Sequence[str], folder: Path) -> list[Path]:
    """Every folder in this one with one of these files, or that cannot be looked into, which must not go missing."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.is_dir() and _may_have(files, path))


def _may_have(files: Sequence[str], folder: Path) -> bool:
    try:
        return any((folder / file).exists() for file in files)
    except OSError:
        return True


def _pipeline(
    manifest: Manifest, vocabulary_size: int | None, weights: Mapping[str, Tensor], folder: Path, device: torch.device
) -> Pipeline:
    inputs = manifest.input
    if manifest.factory is None:
        for name, value in weights.items():
            if not value.is_floating_point() and not name.endswith(factory.COUNTER):
                raise WeightsError(f"'{name}' holds {value.dtype}, not floating-point numbers")
        return LayeredPipeline(
            inputs,
            manifest.static,
            vocabulary_size,
            manifest.layers,
            manifest.heads,
            weights,
            ignored=manifest.ignored,
        )
    module = factory.build(manifest.factory, manifest.factory_arguments, weights, folder.parent).to(device)
    return ProgramPipeline(inputs, vocabulary_size, manifest.head, CustomProgram(module), manifest.trial_steps)


def _graph_pipeline(
    manifest: Manifest, config: GraphConfig, vocabulary_size: int | None, version: Path, device: torch.device
) -> ProgramPipeline:
    path = version / graph_files.NAMES[config.format]
    program = open_graph(config.format, path).program(config)
    if not program.runs_elsewhere:
        program.to(device)
    return ProgramPipeline(manifest.input, vocabulary_size, manifest.head, program, manifest.trial_steps)


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
        if value.is_floating_point() and not is_finite(value):
            raise WeightsError(f"{shown}: '{name}' holds NaN or Infinity, or what float32 cannot hold")
        weights[name] = value.float() if value.is_floating_point() else value
    return weights


def _age(version: str) -> tuple[int, str]:
    """Versions that are numbers sort as numbers, behind all others."""
    return (int(version), version) if version.isdecimal() else (-1, version)
