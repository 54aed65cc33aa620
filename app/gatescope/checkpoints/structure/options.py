"""`Options`: what whoever imports a checkpoint says about it; what is left out is guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from gatescope.checkpoints.companions.scaler import ScalerFile
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.heads import Task
from gatescope.pipeline.layers.activation import Function
from gatescope.pipeline.layers.pool import How

NONE = "none"
LONGEST_NAME = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Options:
    """Every field may be left out; paths are those of the checkpoint's modules, with or without a dot at the end."""

    version: str | None = None
    """The version's name; the next whole number."""

    layers: tuple[str, ...] = ()
    """All layers from the inputs to the prediction, as `notation` writes them."""

    prefix: tuple[str, ...] = ()
    """The path of the LSTM, or of several, which are stacked in this order unless `join` says otherwise."""

    join: str | None = None
    """How several LSTMs are joined: `stacked`, `residual` (the input of each is added to its output where it fits),
    `parallel` (side by side) or `parallel=add`."""

    embedding: str | None = None
    """The path of the embedding, or `none`."""

    head: tuple[str, ...] = ()
    """The paths of the head's linear layers, or of what holds them; or `none` to serve the LSTM alone."""

    task: str | None = None
    """As in a manifest."""

    steps: str | None = None
    """What the head reads: `all` steps, or the pool of one."""

    activation: str | None = None
    """The function between the linear layers of the head, or `none`."""

    output_activation: str | None = None
    """The function behind the last layer, or `none`."""

    ignore: tuple[str, ...] = ()
    """Weights, or what stands before their names, that no prediction depends on."""

    features: tuple[str, ...] = ()
    """The names of the inputs."""

    static: tuple[str, ...] = ()
    """The names of the inputs that a sequence has once; they are fed beside the others at every step."""

    scaler: ScalerFile | str | None = None
    """How inputs and outputs were scaled: a file that was read, or the same as JSON."""

    outputs: tuple[str, ...] = ()
    """The names of a regression's outputs."""

    predicts: str | None = None
    """Whether the prediction at step t is of the `same_step` or of the `next_step`."""

    labels: tuple[str, ...] = ()
    """The labels of a classification, a tagging, a binary or a multi-label task."""

    quantiles: tuple[str, ...] = ()
    """Of a quantile task."""

    characters: str | None = None
    """The vocabulary of characters, in the order of their ids."""

    vocabulary: tuple[str, ...] = ()
    """The vocabulary's entries, in the order of their ids."""

    tokens: str | None = None
    """Whether the entries of the vocabulary are `characters` or `words`."""

    lowercase: str | None = None
    """Whether a text is lower-cased before it is split: `true` or `false`."""

    description: str | None = None
    """One line for the manifest."""


DESCRIBING = (
    "layers",
    "join",
    "task",
    "steps",
    "activation",
    "output_activation",
    "features",
    "static",
    "scaler",
    "outputs",
    "predicts",
    "labels",
    "quantiles",
    "characters",
    "vocabulary",
    "tokens",
    "lowercase",
    "description",
)
"""The options that a manifest answers, where there is one already."""


_FUNCTIONS = (NONE, *get_args(Function))
_CHOICES: dict[str, tuple[str, ...]] = {
    "join": ("stacked", "residual", "parallel", "parallel=add"),
    "task": get_args(Task),
    "steps": ("all", *get_args(How)),
    "activation": _FUNCTIONS,
    "output_activation": _FUNCTIONS,
    "predicts": ("same_step", "next_step"),
    "tokens": ("characters", "words"),
    "lowercase": ("true", "false"),
}


def check(name: str, options: Options) -> None:
    """Refuse a name or an option that cannot be.

    Raises:
        InvalidInput: every place is named.
    """
    if places := [*_places(name, options)]:
        raise InvalidInput.at(*places)


def given(options: Options, fields: tuple[str, ...]) -> list[str]:
    """Those of the fields that are not left out."""
    return [field for field in fields if getattr(options, field) not in (None, ())]


def _places(name: str, options: Options) -> Iterator[Place]:
    yield from _check_name("name", name)
    if options.version is not None:
        yield from _check_name("version", options.version)
    for field, choices in _CHOICES.items():
        value = getattr(options, field)
        if value is not None and value not in choices:
            yield Place((field,), f"must be {', '.join(choices)}, not {value!r}")
    for field in ("features", "static", "outputs", "labels"):
        yield from _check_list(field, getattr(options, field))
    yield from _check_vocabulary(options)
    if options.description is not None and not _is_line(options.description):
        yield Place(("description",), f"must be one printable line of at most {_LONGEST_TEXT} characters")


def _check_name(field: str, value: str) -> Iterator[Place]:
    if not _NAME.fullmatch(value) or len(value) > LONGEST_NAME:
        shown = value if len(value) <= LONGEST_NAME else value[:LONGEST_NAME] + "…"
        message = f"must be letters, digits, '.', '_' and '-', beginning with a letter or digit, up to {LONGEST_NAME}"
        yield Place((field,), f"{message}, not {shown!r}")


def _check_list(field: str, values: tuple[str, ...]) -> Iterator[Place]:
    for value, count in Counter(values).items():
        if not _is_line(value):
            yield Place((field,), f"must be printable and not empty, not {value[:LONGEST_NAME]!r}")
        if count > 1:
            yield Place((field,), f"has {value!r} twice")


def _check_vocabulary(options: Options) -> Iterator[Place]:
    if options.characters is not None and options.vocabulary:
        yield Place(("vocabulary",), "give either 'characters' or 'vocabulary', not both")
    for field, entries in (("characters", tuple(options.characters or ())), ("vocabulary", options.vocabulary)):
        for entry, count in Counter(entries).items():
            if count > 1:
                yield Place((field,), f"has {entry!r} twice")
            if (field == "vocabulary" and "\n" in entry) or not _is_unicode(entry):
                yield Place((field,), f"{entry!r} cannot be an entry")
    if options.characters == "":
        yield Place(("characters",), "is empty")


def _is_line(text: str) -> bool:
    return text.isprintable() and bool(text.strip()) and len(text) <= _LONGEST_TEXT


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
