"""`Options`: what whoever imports a checkpoint says about it; what is left out is guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.head import Activation, Steps
from gatescope.pipeline.output import Task

NONE = "none"
LONGEST_NAME = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Options:
    """Every field may be left out; paths are those of the checkpoint's modules, with or without a dot at the end."""

    version: str | None = None
    """The version's name; the next whole number."""

    prefix: tuple[str, ...] = ()
    """The path of the LSTM, or of several that are stacked in this order."""

    embedding: str | None = None
    """The path of the embedding, or `none`."""

    head: tuple[str, ...] = ()
    """The paths of the head's linear layers, or of what holds them; or `none` to serve the LSTM alone."""

    task: str | None = None
    """As in a manifest."""

    steps: str | None = None
    """As in a manifest's [head]."""

    activation: str | None = None
    """As in a manifest's [head]."""

    features: tuple[str, ...] = ()
    """The names of the LSTM's inputs."""

    outputs: tuple[str, ...] = ()
    """The names of a regression's outputs."""

    labels: tuple[str, ...] = ()
    """The labels of a classification or a tagging."""

    characters: str | None = None
    """The vocabulary of characters, in the order of their ids."""

    vocabulary: tuple[str, ...] = ()
    """The vocabulary's entries, in the order of their ids."""

    description: str | None = None
    """One line for the manifest."""


DESCRIBING = ("task", "steps", "activation", "features", "outputs", "labels", "characters", "vocabulary", "description")
"""The options that a manifest answers, where there is one already."""


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
    for field, choices in (("task", Task), ("steps", Steps), ("activation", Activation)):
        value = getattr(options, field)
        if value is not None and value not in get_args(choices):
            yield Place((field,), f"must be {', '.join(get_args(choices))}, not {value!r}")
    for field in ("features", "outputs", "labels"):
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
