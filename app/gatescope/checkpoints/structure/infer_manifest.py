"""What the layers of a checkpoint mean: the manifest, stated by options or guessed and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from gatescope.checkpoints.structure.arrange import refuse
from gatescope.checkpoints.structure.inputs import Inputs
from gatescope.checkpoints.structure.options import Options, given
from gatescope.checkpoints.structure.questions import Asked, Scaling
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.manifest_v1 import first_problem

EXAMPLE_FILE = "examples/random.json"
EXAMPLES = [{"title": "Random inputs, to see that it answers", "file": EXAMPLE_FILE}]
_OF_A_HEAD = ("task", "outputs", "predicts", "labels", "quantiles")
_OF_RAW_INPUTS = ("features", "static", "scaler", "characters", "vocabulary")
_SCORES = frozenset({"crf", "softmax", "log_softmax"})


@dataclass(frozen=True)
class Meaning:
    """A manifest for the layers of a checkpoint, and what of it was guessed."""

    manifest: Manifest
    notes: tuple[str, ...]


class Reading(Protocol):
    """What of a checkpoint is served: layers, or a graph."""

    @property
    def stated(self) -> Mapping[str, Any]:
        """[[layers]] or [graph] of the manifest."""

    @property
    def description(self) -> str:
        """One line for people."""

    @property
    def predicts(self) -> bool:
        """Whether there is a prediction; else the recurrent layers alone are served."""

    @property
    def last(self) -> str | None:
        """The function or type of layer that the prediction comes from, where that says what it means."""

    @property
    def own_width(self) -> int | None:
        """The width of the recurrent layer's inputs, where these are what it is asked with."""

    @property
    def is_verified(self) -> bool:
        """Whether a sample was compared, which then is an example."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found, a sentence each."""

    @property
    def ignored(self) -> tuple[str, ...]:
        """Weights that are left aside knowingly."""

    @property
    def not_computed(self) -> tuple[tuple[str, str, str], ...]:
        """Name, kind and place of what is missing on the way to a prediction."""


def of(read: Reading, shape: Shapes, options: Options, inputs: Inputs) -> Meaning:
    """The manifest of these layers.

    Args:
        read: the layers, or the graph.
        shape: what they take and give.
        options: what is stated.
        inputs: what the model is asked with.

    Raises:
        InvalidInput: an option does not fit the layers, or the others.
    """
    made, notes = stated(read, shape, options, inputs)
    return Meaning(validated(made), tuple(notes))


def stated(read: Reading, shape: Shapes, options: Options, inputs: Inputs) -> tuple[dict[str, Any], list[str]]:
    """The same manifest before it is checked, and what was guessed."""
    guess = _Guess(read, shape, options, inputs)
    return guess.stated(), guess.notes


def head_of(read: Reading, shape: Shapes, options: Options, inputs: Inputs) -> tuple[dict[str, Any], list[str]]:
    """A further head, and what was guessed of it."""
    guess = _Guess(read, shape, options, inputs)
    return guess.head(), guess.notes


def validated(made: Mapping[str, Any]) -> Manifest:
    """The manifest; raises `InvalidInput` where its parts do not go together."""
    try:
        return Manifest.model_validate(made)
    except ValidationError as error:
        refuse("task", first_problem(error))


@dataclass(frozen=True)
class Shapes:
    """What layers take and give."""

    takes: int
    """Numbers of a time step that come in; of tokens, how many there are."""
    gives: int
    """Numbers that the last layer gives."""
    per_step: bool
    """Whether it gives them for each time step."""


@dataclass
class _Guess:
    read: Reading
    shape: Shapes
    options: Options
    inputs: Inputs
    notes: list[str] = field(default_factory=list)

    @property
    def asked(self) -> Asked:
        """What the model is asked with."""
        return self.inputs.asked

    def stated(self) -> dict[str, Any]:
        """The manifest."""
        stated: dict[str, Any] = {
            "format": 2,
            "description": self.options.description or self.read.description,
            "input": self.inputs.tokens or self._features() if self.read.own_width is None else self._own_inputs(),
            **self.read.stated,
        }
        if self.options.static and self.read.own_width is None:
            stated["static"] = {"features": _scaled(self.options.static, self.asked.static_scaler)}
        if self.read.predicts:
            stated["heads"] = [self.head()]
        elif useless := given(self.options, _OF_A_HEAD):
            refuse(useless[0], "is about a prediction, but there is none: " + (self.read.notes or ("no head",))[-1])
        if self.read.ignored:
            stated["ignored"] = list(self.read.ignored)
        if self.read.not_computed:
            keys = ("name", "kind", "place")
            stated["not_computed"] = [dict(zip(keys, each, strict=True)) for each in self.read.not_computed]
        if not self.read.is_verified:
            stated["examples"] = EXAMPLES
        return stated

    def _own_inputs(self) -> dict[str, Any]:
        """The recurrent layer's own inputs, where what stands before it is not computed."""
        if useless := given(self.options, _OF_RAW_INPUTS):
            refuse(useless[0], "is about raw inputs, but what makes the LSTM's inputs of them is not computed")
        names = (f"lstm_input_{index}" for index in range(self.read.own_width or 0))
        return {"kind": "features", "features": [{"name": name} for name in names]}

    def _features(self) -> dict[str, Any]:
        names = self.inputs.features
        if self.options.features:
            _check_count("features", names, self.shape.takes, "the model")
        elif names == tuple(_numbered("feature", len(names))):
            self._say("Features", _some(names), "--features a,b,… for their names")
        return {"kind": "features", "features": _scaled(names, self.asked.scaler)}

    def head(self) -> dict[str, Any]:
        """What is predicted."""
        task, width = self._task(), self.shape.gives
        head: dict[str, Any] = {"task": task}
        if task in {"regression", "quantile"}:
            count = max(1, len(self.options.quantiles))
            if width % count:
                refuse("quantiles", f"has {count} entries, but the model gives {width} values")
            head["names"] = self._names("outputs", lambda: _numbered("output", width // count), width // count)
            head |= self._scale(width // count)
        elif self.asked.output_scaler is not None:
            refuse(
                "scaler",
                f"scales outputs, but a {task} gives scores: leave the outputs out, or state --task regression",
            )
        if self.options.quantiles:
            head["quantiles"] = [_number(each) for each in self.options.quantiles]
        if task == "binary":
            head["labels"] = self._names("labels", lambda: ["0", "1"], 2)
        elif task in {"classification", "tagging", "multi_label"}:
            head["labels"] = self._names("labels", lambda: [str(index) for index in range(width)], width)
        elif task == "next_token":
            head["predicts"] = "next_step"
        if self.options.predicts is not None:
            head["predicts"] = self.options.predicts
        unwanted = "labels" if task in {"regression", "quantile", "next_token"} else "outputs"
        if getattr(self.options, unwanted):
            refuse(unwanted, f"a {task} has none")
        return head

    def _scale(self, count: int) -> dict[str, Any]:
        scaler = self.asked.output_scaler
        if scaler is None:
            return {}
        if len(scaler.mean) not in {1, count}:
            refuse("scaler", f"has {len(scaler.mean)} numbers for the outputs, but the model has {count}")
        each = 1 if len(scaler.mean) == count else count  # one number is for all
        return {"mean": scaler.mean.tolist() * each, "std": scaler.std.tolist() * each}

    def _task(self) -> str:
        options, width = self.options, self.shape.gives
        if options.task is not None:
            self._check_task(options.task)
            return options.task
        per_step = "tagging" if self.shape.per_step else "classification"
        last = self.read.last
        if options.labels:
            task, why = per_step, "there are labels"
            if width == 1:
                task, why = "binary", "there are two labels for one value"
        elif options.quantiles:
            task, why = "quantile", "there are quantiles"
        elif last in _SCORES:
            task, why = per_step, f"it ends in {'a CRF' if last == 'crf' else last}"
        elif options.outputs or not self.asked.reads_tokens:
            task, why = "regression", "numbers come in"
        elif width == self.asked.vocabulary_size and self.shape.per_step:
            task, why = "next_token", "the head is as wide as the vocabulary"
        elif width > 1:
            task, why = per_step, f"tokens come in and {width} values come out"
        else:
            task, why = "regression", "one value comes out"
        self._say("Task", f"{task}, as {why}", "--task")
        return task

    def _check_task(self, task: str) -> None:
        if task == "next_token" and self.shape.gives != self.asked.vocabulary_size:
            size = self.asked.vocabulary_size or "no"
            refuse("task", f"the head gives {self.shape.gives} values, but there are {size} tokens")
        if task in {"classification", "tagging"} and self.shape.gives == 1:
            refuse(
                "task",
                f"a {task} has a score for each of several labels, but the head gives one value: regression or binary",
            )
        wanted = {"classification": False, "tagging": True, "next_token": True}.get(task)
        if wanted is not None and wanted != self.shape.per_step:
            gives = "time step" if self.shape.per_step else "sequence"
            refuse("task", f"the layers give a prediction per {gives}, which is no {task}")

    def _names(self, option: str, default: Callable[[], list[str]], count: int) -> Sequence[str]:
        names: Sequence[str] = getattr(self.options, option)
        if names:
            _check_count(option, names, count, "the head's output")
            return names
        names = default()
        self._say(option.capitalize(), _some(names), f"--{option} a,b,…")
        return names

    def _say(self, what: str, guess: str, override: str) -> None:
        self.notes.append(f"{what}: {guess} ({override}).")


def _scaled(names: Sequence[str], scaler: Scaling | None) -> list[dict[str, Any]]:
    if scaler is None:
        return [{"name": name} for name in names]
    pairs = zip(names, scaler.mean, scaler.std, strict=True)
    return [{"name": name, "mean": float(mean), "std": float(std)} for name, mean, std in pairs]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        refuse("quantiles", f"must be numbers, not {text!r}")


def _numbered(what: str, count: int) -> list[str]:
    return [f"{what}_{index}" for index in range(count)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]}"  # noqa: PLR2004


def _check_count(option: str, names: Sequence[str], count: int, owner: str) -> None:
    if len(names) != count:
        refuse(option, f"has {len(names)} entries, but {owner} has {count}")
