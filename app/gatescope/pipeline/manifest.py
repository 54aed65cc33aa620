"""`Manifest`: what `model.toml` says about a model. Data, never code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, model_validator

from gatescope.errors import ManifestError
from gatescope.pipeline.config import Config
from gatescope.pipeline.features import FeatureInputs, StaticInputs
from gatescope.pipeline.heads import HeadConfig, Task
from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.tokens import TokenInputs
from gatescope.pipeline.vocabulary import Vocabulary


class Example(Config):
    """A request that shows what the model does; it stands in ModelInfo, complete."""

    title: str
    """What it shows."""

    file: str | None = None
    """The JSON file with the request's body, below the model's folder."""

    request: dict[str, Any] | None = None
    """The request's body itself."""

    @model_validator(mode="after")
    def _one_source(self) -> Example:
        if (self.file is None) == (self.request is None):
            raise ValueError("give the example's request as either `file` or `request`")
        return self


class Shared(Config):
    """What a manifest of any format has."""

    description: str
    """One line: what it predicts, from what."""

    factory: str | None = Field(default=None, pattern=r"^[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*(\.\w+)*$")
    """A module with code of its own: `package.module:function`, which makes it. Needs `GATESCOPE_ALLOW_CODE=true`."""

    factory_arguments: dict[str, Any] = Field(default={})
    """Given to the factory by name."""

    trial_steps: int = Field(default=32, ge=1, le=100_000)
    """How many time steps a custom module or a graph is tried with when it is loaded."""

    default_version: str | None = None
    """The version that answers where none is named; the newest when left out."""

    input: Annotated[FeatureInputs | TokenInputs, Field(discriminator="kind")]
    """What the model takes."""

    examples: tuple[Example, ...] = ()
    """Requests to try."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files beside the manifest that the model is made of: its vocabulary and examples."""
        vocabulary = None if isinstance(self.input, FeatureInputs) else self.input.file
        return tuple(file for file in (vocabulary, *(example.file for example in self.examples)) if file is not None)

    def read_vocabulary(self, folder: Path) -> Vocabulary | None:
        """The vocabulary of a model of tokens, None of a model of features.

        Raises:
            ManifestError: its file cannot be read or lies outside the folder, or its entries do not fit its rule.
        """
        if isinstance(self.input, FeatureInputs):
            return None
        stated = self.input
        if stated.size is not None:
            return Vocabulary.of_ids(stated.size)
        if stated.file is not None:
            text = _text(folder, stated.file)
            entries: list[str] = text.removesuffix("\n").split("\n")
        else:
            entries = list(stated.characters or "")
        try:
            return Vocabulary(
                entries, stated.vocabulary, stated.unknown, stated.unknown_token, lowercase=stated.lowercase
            )
        except ValueError as error:
            raise ManifestError(f"{folder.name}: {error}") from error

    def read_examples(self, folder: Path) -> list[dict[str, Any]]:
        """The examples as ModelInfo shows them: title and complete request.

        Raises:
            ManifestError: an example's file cannot be read or is no JSON object, or a request cannot be shown as JSON.
        """
        return [{"title": example.title, "request": _shown(folder, example)} for example in self.examples]


class NotComputed(Config):
    """Weights on the way from the inputs to a prediction that the layers do not compute."""

    name: str
    """What they are called in the checkpoint."""

    kind: str
    """What they look like."""

    place: Literal["before", "behind"]
    """`before` the recurrent layers: the model then takes their own inputs. `behind` them: it then predicts nothing."""


class Manifest(Shared):
    """`models/<name>/model.toml`."""

    format: Literal[2] = 2
    """Of the manifest: 2. One without it is of format 1, and is translated when it is loaded."""

    static: StaticInputs | None = None
    """What the model takes once for each sequence."""

    layers: tuple[LayerConfig, ...] = ()
    """From the inputs to the predictions, in the order in which they run."""

    graph: GraphConfig | None = None
    """A graph that runs as a whole, in place of layers."""

    heads: tuple[HeadConfig, ...] = ()
    """What is predicted, the first one being the prediction; without any, the recurrent layers alone are served."""

    window: int | None = Field(default=None, ge=1)
    """How many time steps the sequences of the training had."""

    warmup_steps: int = Field(default=0, ge=0)
    """How many first time steps of a sequence the model needs to find its state: predictions there are not to be
    believed."""

    ignored: tuple[str, ...] = ()
    """Weights, or what stands before their names, that are left aside knowingly."""

    not_computed: tuple[NotComputed, ...] = ()
    """What of the checkpoint is missing on the way to a prediction."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Manifest:
        if self.is_program:
            self._check_program()
        elif surplus := sorted(self.model_fields_set & {"factory_arguments", "trial_steps"}):
            raise ValueError(f"`{surplus[0]}` goes with `factory`{' or [graph]' * (surplus[0] == 'trial_steps')}")
        elif not self.layers:
            raise ValueError("a model needs [[layers]], a [graph], or a `factory` that makes its module")
        if len({head.name for head in self.heads}) < len(self.heads):
            raise ValueError("two heads have the same name")
        for head in self.heads:
            if head.task == "next_token" and self.input.kind != "tokens":
                raise ValueError("next_token needs an input of tokens")
        if isinstance(self.input, FeatureInputs):
            self._check_feedback(self.input)
            self._check_gaps(self.input)
        return self

    def _check_program(self) -> None:
        if self.factory is None and "factory_arguments" in self.model_fields_set:
            raise ValueError("`factory_arguments` goes with `factory`, and only with it")
        if self.factory is not None and self.graph is not None:
            raise ValueError("a model has a [graph], or a `factory` that makes its module, not both")
        if self.layers or self.static or len(self.heads) > 1 or any(head.layer for head in self.heads):
            what = "the module that `factory` makes" if self.graph is None else "a graph"
            raise ValueError(f"{what} has its own layers: leave [[layers]] and [static] out")
        if self.graph is not None and self.heads and self.graph.prediction is None:
            raise ValueError("[graph] names no output as `prediction`, so there can be no [[heads]]")

    def _check_feedback(self, inputs: FeatureInputs) -> None:
        for index in self.head.fed_back(inputs.names) if self.head else ():
            feature = inputs.features[index]
            if feature.calendar:
                raise ValueError(f"output '{feature.name}' cannot be fed back: that input follows from the time")
            if feature.categories or feature.period:
                raise ValueError(f"output '{feature.name}' cannot be fed back: that input is a category or a phase")

    def _check_gaps(self, inputs: FeatureInputs) -> None:
        for feature in inputs.features:
            if feature.missing == "nan" and not self.is_program:
                raise ValueError(
                    f"feature '{feature.name}': `missing` is 'nan', but no layer computes with NaN; that goes with a "
                    "`factory` or a [graph] which does"
                )

    @property
    def is_program(self) -> bool:
        """Whether the model runs as a whole, not layer by layer."""
        return self.factory is not None or self.graph is not None

    @property
    def head(self) -> HeadConfig | None:
        """The first head, None where nothing is predicted."""
        return self.heads[0] if self.heads else None

    @property
    def task(self) -> Task | None:
        """Of the first head."""
        return None if self.head is None else self.head.task


def _shown(folder: Path, example: Example) -> Any:
    """The request with nothing but what JSON has: TOML has dates and NaN, and can be nested deeper than a reply."""
    try:
        return orjson.loads(orjson.dumps(_request(folder, example)))
    except TypeError as error:
        raise ManifestError(f"{folder.name}: the example '{example.title}' cannot be shown as JSON: {error}") from error


def _request(folder: Path, example: Example) -> Any:
    if example.file is None:
        return example.request
    try:
        request = orjson.loads(_read_beside(folder, example.file))
    except orjson.JSONDecodeError as error:
        raise ManifestError(f"{folder.name}/{example.file} is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise ManifestError(f"{folder.name}/{example.file} must hold a JSON object, the body of a request")
    return request


def _text(folder: Path, name: str) -> str:
    try:
        return _read_beside(folder, name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{folder.name}/{name} cannot be read: {error}") from error


def _read_beside(folder: Path, name: str) -> bytes:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ManifestError(f"{folder.name}: '{name}' lies outside the model's folder")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{folder.name}/{name} cannot be read: {error.strerror}") from error
