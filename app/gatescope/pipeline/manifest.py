"""`Manifest`: what `model.toml` says about a model. Data, never code."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field, ValidationError, model_validator

from gatescope.errors import ManifestError
from gatescope.pipeline.config import Config
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.head import HeadConfig
from gatescope.pipeline.output import OutputConfig, Task
from gatescope.pipeline.tokens import TokenInputs
from gatescope.pipeline.vocabulary import Vocabulary

FILE = "model.toml"


class StatedLSTM(Config):
    """Arguments of the `nn.LSTM` that the manifest states; they are inferred from the weights and must agree."""

    input_size: int | None = None
    """Width of the LSTM's input."""
    hidden_size: int | None = None
    """Width of the cell state."""
    num_layers: int | None = None
    """How many layers are stacked."""
    bias: bool | None = None
    """Whether there are biases."""
    bidirectional: bool | None = None
    """Whether it reads both ways."""
    proj_size: int | None = None
    """Width of the projected hidden state; 0 without a projection."""


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


class Manifest(Config):
    """`models/<name>/model.toml`."""

    description: str
    """One line: what it predicts, from what."""

    task: Task | None = None
    """What the head's values mean: `regression`, `classification` (one label per sequence), `tagging` (one per step)
    or `next_token`. Left out together with [head], the LSTM alone is served."""

    factory: str | None = Field(default=None, pattern=r"^[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*(\.\w+)*$")
    """A module with code of its own: `package.module:function`, which makes it. Needs `GATESCOPE_ALLOW_CODE=true`."""

    factory_arguments: dict[str, Any] = Field(default={})
    """Given to the factory by name."""

    trial_steps: int = Field(default=32, ge=1, le=100_000)
    """How many time steps a custom module is tried with when it is loaded."""

    default_version: str | None = None
    """The version that answers where none is named; the newest when left out."""

    input: Annotated[FeatureInputs | TokenInputs, Field(discriminator="kind")]
    """What the model takes."""

    lstm: StatedLSTM = StatedLSTM()
    """Arguments of the LSTM to hold the weights against; nothing need be stated."""

    head: HeadConfig | None = None
    """How the LSTM's output becomes a prediction."""

    output: OutputConfig = OutputConfig()
    """What the prediction means."""

    examples: tuple[Example, ...] = ()
    """Requests to try."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Manifest:
        self._check_factory()
        if self.task == "regression" and not self.output.names:
            raise ValueError("a regression needs output.names")
        if self.task in ("classification", "tagging") and not self.output.labels:
            raise ValueError(f"{self.task} needs output.labels")
        if self.task == "next_token" and self.input.kind != "tokens":
            raise ValueError("next_token needs an input of tokens")
        if self.head is not None and self.task is not None:
            self._check_steps(self.head, self.task)
        if isinstance(self.input, FeatureInputs):
            self._check_feedback(self.input)
        return self

    def _check_factory(self) -> None:
        if self.factory is None:
            if surplus := sorted(self.model_fields_set & {"factory_arguments", "trial_steps"}):
                raise ValueError(f"`{surplus[0]}` goes with `factory`, and only with it")
            if (self.task is None) != (self.head is None):
                raise ValueError("`task` and [head] go together: state both, or neither to serve the LSTM alone")
        elif self.head is not None:
            raise ValueError("the module that `factory` makes has its own head: leave [head] out")

    def _check_feedback(self, inputs: FeatureInputs) -> None:
        for index in self.output.fed_back(inputs.names):
            feature = inputs.features[index]
            if feature.categories or feature.period:
                raise ValueError(f"output '{feature.name}' cannot be fed back: that input is a category or a phase")

    def _check_steps(self, head: HeadConfig, task: Task) -> None:
        if task in ("tagging", "next_token") and head.steps != "all":
            raise ValueError(f"{task} gives a prediction per time step: head.steps must be 'all', not '{head.steps}'")
        if task == "classification" and head.steps == "all":
            raise ValueError("classification gives one label per sequence: head.steps must be last, final, mean or max")

    @property
    def files(self) -> tuple[str, ...]:
        """The files beside the manifest that the model is made of: its vocabulary and examples."""
        vocabulary = None if isinstance(self.input, FeatureInputs) else self.input.file
        return tuple(file for file in (vocabulary, *(example.file for example in self.examples)) if file is not None)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of the model in this folder.

        Raises:
            ManifestError: it is missing, is not TOML, or a field does not fit; the field is named.
        """
        try:
            return cls.model_validate(tomllib.loads((folder / FILE).read_text(encoding="utf-8-sig")))
        except OSError as error:
            raise ManifestError(f"{folder.name}/{FILE} cannot be read: {error.strerror}") from error
        except RecursionError:
            raise ManifestError(f"{folder.name}/{FILE} cannot be read: it is nested too deeply") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ManifestError(f"{folder.name}/{FILE} cannot be read: {error}") from error
        except ValidationError as error:
            raise ManifestError(f"{folder.name}/{FILE}: {_first(error)}") from error

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
            return Vocabulary(entries, stated.vocabulary, stated.unknown, stated.unknown_token)
        except ValueError as error:
            raise ManifestError(f"{folder.name}: {error}") from error

    def read_examples(self, folder: Path) -> list[dict[str, Any]]:
        """The examples as ModelInfo shows them: title and complete request.

        Raises:
            ManifestError: an example's file cannot be read or is no JSON object, or a request cannot be shown as JSON.
        """
        return [{"title": example.title, "request": _shown(folder, example)} for example in self.examples]


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


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
