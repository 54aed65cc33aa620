"""YAML as plain data, built from the parser's events: no tag of a file constructs anything.

Plain scalars are read by the core schema of YAML 1.2, which training code writes: `1e-05` is a number, and `no` and
`2001-01-01` are text. What has a tag of its own, such as `!!python/object`, becomes a `Placeholder`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

from gatescope.checkpoints.companions.plain import Unreadable, shown

MOST_DEPTH = 64
MOST_VALUES = 500_000
"""Aliases counted as often as they stand for something."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STANDARD = "tag:yaml.org,2002:"
_MAPPINGS = (None, "!", f"{_STANDARD}map")
_LISTS = (None, "!", f"{_STANDARD}seq", f"{_STANDARD}python/tuple")
_TEXTS = ("!", f"{_STANDARD}str", f"{_STANDARD}python/str", f"{_STANDARD}python/unicode")
_PLAIN = tuple(f"{_STANDARD}{name}" for name in ("int", "float", "bool", "null"))

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(frozen=True)
class Placeholder:
    """What stands in a file under a tag that nothing here reads."""

    tag: str


def parse(text: str) -> Any:
    """The one document of a YAML file.

    Raises:
        Unreadable: it is not YAML, has a key twice or several documents, is nested too deeply, or its aliases make too
            much of it.
    """
    try:
        return _Builder().build(yaml.parse(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}"
        raise Unreadable(f"is not YAML{where}: {getattr(error, 'problem', None) or error}") from None


_NO_KEY = object()


@dataclass
class _Open:
    """A mapping or a list that is not complete."""

    value: dict[Any, Any] | list[Any]
    tag: str | None
    anchor: str | None
    key: Any = _NO_KEY
    size: int = 1

    @property
    def awaits_key(self) -> bool:
        return isinstance(self.value, dict) and self.key is _NO_KEY


@dataclass
class _Builder:
    open: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    documents: list[Any] = field(default_factory=list)
    count: int = 0

    def build(self, events: Iterable[Any]) -> Any:
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._add(_scalar(event), 1, event.anchor)
            elif isinstance(event, yaml.MappingStartEvent):
                self._begin(_Open({}, _foreign(event.tag, _MAPPINGS), event.anchor))
            elif isinstance(event, yaml.SequenceStartEvent):
                self._begin(_Open([], _foreign(event.tag, _LISTS), event.anchor))
            elif isinstance(event, yaml.CollectionEndEvent):
                done = self.open.pop()
                self._add(done.value if done.tag is None else Placeholder(done.tag), done.size, done.anchor)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event.anchor)
        if len(self.documents) > 1:
            raise Unreadable(f"has {len(self.documents)} YAML documents: keep one")
        return self.documents[0] if self.documents else None

    def _begin(self, collection: _Open) -> None:
        if len(self.open) >= MOST_DEPTH:
            raise Unreadable("is nested too deeply")
        self.open.append(collection)

    def _alias(self, anchor: str | None) -> None:
        if anchor is None or anchor not in self.anchors:
            raise Unreadable(f"has an alias *{anchor} inside its own anchor, or without one")
        value, size = self.anchors[anchor]
        self._add(value, size, None, new=size)

    def _add(self, value: Any, size: int, anchor: str | None, *, new: int = 1) -> None:
        self.count += new
        if self.count > MOST_VALUES:
            raise Unreadable(f"has more than {MOST_VALUES:,} values, its aliases counted as what they stand for")
        if anchor is not None:
            self.anchors[anchor] = value, size
        if not self.open:
            self.documents.append(value)
            return
        within = self.open[-1]
        within.size += size
        if isinstance(within.value, list):
            within.value.append(value)
        elif within.awaits_key:
            within.key = _checked_key(value, within.value)
        else:
            within.value[within.key] = value
            within.key = _NO_KEY


def _checked_key(key: Any, mapping: dict[Any, Any]) -> Any:
    if isinstance(key, (dict, list)):
        raise Unreadable("has a list or a mapping as a key")
    if key == "<<":
        raise Unreadable("has a merge key <<, which is not read: write the keys out")
    if key in mapping:
        raise Unreadable(f"has the key {shown(key)} twice: keep one of them")
    return key


def _foreign(tag: str | None, known: tuple[str | None, ...]) -> str | None:
    """The tag, None where it says no more than the syntax."""
    return None if tag in known else tag


def _scalar(event: Any) -> Any:
    tag, value = event.tag, event.value
    if tag in _TEXTS or (tag is None and event.style):
        return value
    if tag is None or tag in _PLAIN:
        return _core(value)
    return Placeholder(tag)


def _core(value: str) -> Any:
    """By YAML 1.2's core schema."""
    if value in _NULL:
        return None
    if value in _BOOLEANS:
        return _BOOLEANS[value]
    try:
        if _INTEGER.fullmatch(value):
            return int(value, 0) if value[:2] in ("0x", "0o") else int(value)
        if _FLOAT.fullmatch(value):
            return float(value)
    except ValueError as error:  # more digits than Python converts
        raise Unreadable(f"has a number that is too long: {error}") from None
    if _SPECIAL_FLOAT.fullmatch(value):
        return float(value.replace(".", ""))
    return value
