"""What an LSTM, an embedding and a head mean together: the manifest, stated by options or guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import ValidationError

from gatescope.checkpoints import card
from gatescope.checkpoints.structure.options import Options, given
from gatescope.checkpoints.structure.parts import Parts
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.manifest import Manifest

VOCABULARY_FILE = "vocabulary.txt"
EXAMPLE_FILE = "examples/random.json"
UNKNOWN_TOKENS = ("<unk>", "<UNK>", "[UNK]", "<unknown>", "<oov>", "<OOV>", "UNK")
_SPECIAL = re.compile(r"<.+>|\[.+\]")
_OF_A_HEAD = ("task", "steps", "activation", "outputs", "labels")


@dataclass(frozen=True)
class Meaning:
    """A manifest for parts of a checkpoint, and what of it was guessed."""

    manifest: Manifest
    notes: tuple[str, ...]


def of(parts: Parts, options: Options) -> Meaning:
    """The manifest for these parts.

    Raises:
        InvalidInput: an option does not fit the parts, or the others.
    """
    return _Guess(parts, options).made()


@dataclass
class _Guess:
    parts: Parts
    options: Options
    notes: list[str] = field(default_factory=list)

    def made(self) -> Meaning:
        inputs = self._tokens() if self._reads_tokens else self._features()
        stated: dict[str, Any] = {
            "description": self.options.description or card.description(self.parts),
            "input": inputs,
        }
        if self.parts.head:
            stated |= self._prediction()
        elif useless := given(self.options, _OF_A_HEAD):
            _refuse(useless[0], f"is about a head, but there is none: {self.parts.headless}")
        stated["examples"] = [{"title": "Random inputs, to see that it answers", "file": EXAMPLE_FILE}]
        try:
            return Meaning(Manifest.model_validate(stated), tuple(self.notes))
        except ValidationError as error:
            _refuse("task", error.errors()[0]["msg"].removeprefix("Value error, "))

    @property
    def _reads_tokens(self) -> bool:
        options = self.options
        said = options.characters or options.vocabulary or options.task == "next_token"
        return self.parts.embedding is not None or bool(said)

    @property
    def _vocabulary_size(self) -> int:
        embedding = self.parts.embedding
        return self.parts.stack.spec.input_size if embedding is None else embedding.num_embeddings

    def _features(self) -> dict[str, Any]:
        width = self.parts.stack.spec.input_size
        names: Sequence[str] = self.options.features
        if names:
            _check_count("features", names, width, "the LSTM's input")
        else:
            names = _numbered("feature", width)
            self._say("Features", _some(names), "--features a,b,… for their names")
        return {"kind": "features", "features": [{"name": name} for name in names]}

    def _tokens(self) -> dict[str, Any]:
        options, size = self.options, self._vocabulary_size
        owner = "the embedding" if self.parts.embedding is not None else "the LSTM's one-hot input"
        if options.features:
            _refuse("features", "the model reads tokens: it has no features")
        if options.characters is not None:
            _check_count("characters", options.characters, size, owner)
            return {"kind": "tokens", "vocabulary": "characters", "characters": options.characters}
        if options.vocabulary:
            _check_count("vocabulary", options.vocabulary, size, owner)
            return self._of_entries(options.vocabulary)
        self._say("Tokens", f"{size}, known by their ids alone", "--characters or --vocabulary FILE to read text")
        return {"kind": "tokens", "vocabulary": "ids", "size": size}

    def _of_entries(self, entries: Sequence[str]) -> dict[str, Any]:
        plain = [entry for entry in entries if not _SPECIAL.fullmatch(entry)]
        kind = "characters" if all(len(entry) == 1 for entry in plain) else "words"
        stated = {"kind": "tokens", "vocabulary": kind, "file": VOCABULARY_FILE}
        self.notes.append(f"Tokens: {kind}; a text is split as docs/models.md says, ids are taken as they are.")
        unknown = next((entry for entry in UNKNOWN_TOKENS if entry in entries), None)
        if unknown is None:
            return stated
        self.notes.append(f"Unknown tokens are read as {unknown!r} (input.unknown in the manifest).")
        return stated | {"unknown": "token", "unknown_token": unknown}

    def _prediction(self) -> dict[str, Any]:
        task = self._task()
        head = {"steps": self._steps(task)}
        if activation := self._activation():
            head["activation"] = activation
        return {"task": task, "head": head, "output": self._output(task)}

    def _task(self) -> str:
        options, width = self.options, self.parts.head[-1].out_features
        if options.task is not None:
            return options.task
        per_step = "tagging" if options.steps == "all" else "classification"
        if options.labels:
            task, why = per_step, "there are labels"
        elif options.outputs or not self._reads_tokens:
            task, why = "regression", "numbers come in"
        elif width == self._vocabulary_size:
            task, why = "next_token", "the head is as wide as the vocabulary"
        elif width > 1:
            task, why = per_step, f"tokens come in and {width} values come out"
        else:
            task, why = "regression", "one value comes out"
        self._say("Task", f"{task}, as {why}", "--task")
        return task

    def _steps(self, task: str) -> str:
        if self.options.steps is not None:
            return self.options.steps
        if task == "classification":
            both_ways = self.parts.stack.spec.bidirectional
            hint = "--steps final if it reads h_n, which differs here" if both_ways else "--steps mean or max"
            self._say("Steps", "the head reads the last of each sequence", hint)
            return "last"
        if task == "regression":
            guess = "a prediction at each, the last of which is that of a head that reads the last step alone"
            self._say("Steps", guess, "--steps last, final, mean or max, as it was trained")
        return "all"

    def _activation(self) -> str | None:
        several = len(self.parts.head) > 1
        if self.options.activation is not None and not several:
            _refuse("activation", "the head is one layer: nothing stands between")
        if self.options.activation is None and several:
            self._say("Activation", "relu between the head's layers", "--activation tanh")
            return "relu"
        return self.options.activation

    def _output(self, task: str) -> dict[str, Any]:
        options, width = self.options, self.parts.head[-1].out_features
        wanted = {"regression": "outputs", "next_token": ""}.get(task, "labels")
        for field_name in ("outputs", "labels"):
            names = getattr(options, field_name)
            if names and field_name != wanted:
                _refuse(field_name, f"a {task} has none")
            if names:
                _check_count(field_name, names, width, "the head's output")
        if task == "next_token" and width != self._vocabulary_size:
            _refuse("task", f"the head gives {width} values, but there are {self._vocabulary_size} tokens")
        if task == "next_token":
            return {"predicts": "next_step"}
        if task == "regression":
            return {"names": self._names("outputs", lambda: _numbered("output", width))}
        if width == 1:
            _refuse(
                "task", f"a {task} has a score for each of several labels, but the head gives one value: a regression"
            )
        return {"labels": self._names("labels", lambda: [str(index) for index in range(width)])}

    def _names(self, option: str, default: Callable[[], list[str]]) -> Sequence[str]:
        names: Sequence[str] = getattr(self.options, option)
        if not names:
            names = default()
            self._say(option.capitalize(), _some(names), f"--{option} a,b,…")
        return names

    def _say(self, what: str, guess: str, override: str) -> None:
        self.notes.append(f"{what}: {guess} ({override}).")


def _numbered(what: str, count: int) -> list[str]:
    return [f"{what}_{index}" for index in range(count)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]}"  # noqa: PLR2004


def _check_count(option: str, given: Sequence[str], count: int, owner: str) -> None:
    if len(given) != count:
        _refuse(option, f"has {len(given)} entries, but {owner} has {count}")


def _refuse(option: str, message: str) -> NoReturn:
    raise InvalidInput.at(Place((option,), message))
