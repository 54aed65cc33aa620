"""What the entries of a vocabulary are: characters or words, and which of them stand for no text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gatescope.checkpoints.companions.plain import listed, shown

FILLER = "<id {}>"
"""An entry for an id that a vocabulary does not have; no text gives it, as it is neither a character nor a word."""

_BRACKETED = re.compile(r"<.+>|\[.+\]|\{.+\}|__.+__", re.DOTALL)
_AROUND = re.compile(r"[<\[{]?[|/_]*(.+?)[|_]*[>\]}]?", re.DOTALL)
_UNKNOWN = frozenset({"unk", "unknown", "oov"})
_SPECIAL = _UNKNOWN | {
    *("pad", "padding", "sos", "eos", "bos", "cls", "sep", "mask", "start", "stop", "end"),
    *("go", "blank", "null", "none"),
}
_ALSO_WORDS = frozenset({"unknown", "padding", "mask", "start", "stop", "end", "go", "blank", "null", "none"})
"""Of the special entries: without brackets and in lower case, these are words like others in a list of words."""

_FEW = 0.2
"""A list of characters has at most this share of longer entries; in lists of words it is far more."""

_SUBWORDS = {"##": "WordPiece", "Ġ": "byte-level BPE", "▁": "SentencePiece"}
_MANY = 0.02
"""A list of subwords has at least this share of entries with the mark of its kind."""


@dataclass(frozen=True)
class Kind:
    """What the entries of a vocabulary are."""

    kind: Literal["characters", "words"] | None
    """None where it cannot be told."""

    special: tuple[str, ...]
    """The entries that stand for no text, such as PAD."""

    unknown: str | None
    """The one of them that stands for unknown tokens."""

    reason: str
    """Why it is that kind, or why it cannot be told."""


def kind_of(entries: Sequence[str]) -> Kind:
    """Whether entries are characters or words, and which are special.

    Special are PAD, UNK, OOV, SOS, EOS, BOS, CLS, SEP, MASK, START, STOP and the like in any case, with or without
    `<>`, `[]`, `{}` or `__`, everything else that has those around it, and the empty entry.
    """
    marked = [entry for entry in entries if _is_special(entry)]
    subwords = _subwords(entries)
    plain = [entry for entry in entries if not _is_special(entry)]
    long = [entry for entry in plain if len(entry) != 1]
    if subwords is not None:
        return _kind(None, marked, f"the entries are parts of words ({subwords}), and no text is split into those here")
    if not plain:
        return _kind(None, marked, "there is no entry but special ones")
    if not long:
        return _kind("characters", marked, f"all entries but {listed(marked)} are characters" if marked else "all are")
    if len(long) <= _FEW * len(plain):
        return _kind(None, marked, f"{len(plain) - len(long)} entries are one character, but {listed(long)} are not")
    marked = [entry for entry in marked if entry not in _ALSO_WORDS]
    return _kind("words", marked, f"{len(long)} of {len(plain)} entries have several characters")


def is_lowercase(entries: Sequence[str]) -> bool:
    """Whether there are letters with two cases in the entries, and all of them are lower case; special ones aside."""
    plain = [entry for entry in entries if not _is_special(entry)]
    has_case = any(entry != entry.upper() for entry in plain)
    return has_case and all(entry == entry.lower() for entry in plain)


def filler(index: int, taken: set[str]) -> str:
    """An entry that no text gives, and that is not among those taken."""
    entry = FILLER.format(index)
    while entry in taken:
        entry = f"<{entry}>"
    return entry


def _kind(kind: Literal["characters", "words"] | None, special: Sequence[str], reason: str) -> Kind:
    unknown = sorted((entry for entry in special if _core(entry) in _UNKNOWN), key=lambda entry: not _is_marked(entry))
    return Kind(kind, tuple(special), unknown[0] if unknown else None, reason)


def _is_special(entry: str) -> bool:
    return not entry or (len(entry) > 1 and (_is_marked(entry) or _core(entry) in _SPECIAL))


def _is_marked(entry: str) -> bool:
    return _BRACKETED.fullmatch(entry) is not None


def _core(entry: str) -> str:
    """`<UNK>`, `[unk]`, `__UNK__` and `UNK` are all `unk`."""
    match = _AROUND.fullmatch(entry)
    return (match[1] if match else entry).lower().removesuffix("_token")


def _subwords(entries: Sequence[str]) -> str | None:
    for mark, name in _SUBWORDS.items():
        count = sum(entry.startswith(mark) and len(entry) > len(mark) for entry in entries)
        if count > 1 and count >= _MANY * len(entries):
            return f"{name}, as in {shown(next(e for e in entries if e.startswith(mark) and len(e) > len(mark)))}"
    return None
