"""Small files of text as plain data: mappings, lists, text, numbers, true, false and None."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

MOST_BYTES = 4 * 2**20
"""Of a configuration or a scaler."""

YAML_SUFFIXES = (".yml", ".yaml")

_PICKLE_SUFFIXES = (".pkl", ".pickle", ".p", ".joblib", ".sav", ".dill")
_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICKLE_AS_TEXT = re.compile(rb"(?:ccopy_?reg\n|\((?:dp|lp)\d*\n).*\.\s*", re.DOTALL)
_COMPRESSED = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"ZF0x")
"""How joblib's compressed files begin: zlib, gzip, bzip2, xz, and its own old format."""

_ZIP = b"PK\x03\x04"
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_LONGEST_SHOWN = 60
_MOST_SHOWN = 6


class Unreadable(ValueError):
    """What is wrong with a file, for a message that names the file."""


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of an ordinary file.

    Raises:
        Unreadable: it cannot be read, is no ordinary file, or is larger than that.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unreadable("is not an ordinary file")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > most_bytes:
        raise Unreadable(f"has more than the {most_bytes:,} bytes that are read of such a file")
    return content


def text_of(content: bytes) -> str:
    """The content as UTF-8.

    Raises:
        Unreadable: it is something else.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 at byte {error.start:,}: save it as UTF-8") from None
    if "\0" in text:
        raise Unreadable("is not text")
    return text


def parse(content: bytes, *, is_yaml: bool) -> Any:
    """The plain data in a JSON or YAML file.

    Raises:
        Unreadable: it is not that, has a key twice, or is nested too deeply.
    """
    text = text_of(content)
    return _yaml(text) if is_yaml else _json(text)


def load(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """The plain data in a JSON file, or in one that ends in .yml or .yaml.

    Raises:
        Unreadable: it cannot be read, is too large, or is not that.
    """
    return parse(read_bytes(path, most_bytes), is_yaml=path.suffix.lower() in YAML_SUFFIXES)


def is_pickle(path: Path, content: bytes) -> bool:
    """Whether a file is a pickle or an archive around one, by its content or by its name."""
    if path.suffix.lower() in _PICKLE_SUFFIXES or _PICKLE_AS_TEXT.fullmatch(content) or is_zip(content):
        return True
    return content.startswith((*_PICKLE, *_COMPRESSED)) and not _is_text(content)


def is_zip(content: bytes) -> bool:
    """Whether a file is a zip archive: of NumPy, of PyTorch, or another."""
    return content.startswith(_ZIP)


def shown(value: object) -> str:
    """A value in a message: printable, and not long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def listed(names: Iterable[object]) -> str:
    """Names in a message: the first few, and how many there are."""
    every = list(names)
    some = ", ".join(map(shown, every[:_MOST_SHOWN]))
    return some if len(every) <= _MOST_SHOWN else f"{some} … ({len(every)} in all)"


def nearest(name: str, known: Sequence[str]) -> str:
    """` (did you mean …?)`, or nothing where no known name is near."""
    near = get_close_matches(name, known, n=1)
    folded = near or [each for each in known if each.casefold() == name.casefold()]
    return f" (did you mean {shown(folded[0])}?)" if folded else ""


def in_python(name: str) -> str:
    """A file's name as Python code."""
    return json.dumps(name, ensure_ascii=not name.isprintable())


def _is_text(content: bytes) -> bool:
    try:
        return not _CONTROL.search(content.decode())
    except UnicodeDecodeError:
        return False


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"is not JSON: {error}") from None
    except ValueError as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"has a number that is too long: {error}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Unreadable(f"has the key {shown(repeated)} twice: keep one of them")
    return made


def _yaml(text: str) -> Any:
    try:
        from gatescope.checkpoints.companions import yaml_file  # noqa: PLC0415 - PyYAML is an extra
    except ModuleNotFoundError:
        raise Unreadable("is YAML, which needs PyYAML: pip install 'gatescope[cli]'") from None
    return yaml_file.parse(text)
