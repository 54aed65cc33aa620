"""`Vocabulary`: text -> tokens -> ids, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from gatescope.pipeline import words

Kind = Literal["characters", "words", "ids"]
Unknown = Literal["refuse", "token", "suffix"]

LONGEST_SUFFIX = 4


class UnknownToken(LookupError):
    """A token that the vocabulary does not have and may not replace."""

    def __init__(self, index: int, token: str) -> None:
        super().__init__(index, token)
        self.index, self.token = index, token


class Vocabulary:
    """A fixed list of entries; an entry's id is its place in the list.

    Unknown tokens are refused, replaced by one given entry (`token`), or looked up by their ending (`suffix`): first
    lower-cased, then by entries of the form "<shape> <ending>", where shape is `digit`, `mark`, `UPPER`, `Title` or
    `lower`, from the longest ending that is there down to the empty one.
    """

    def __init__(
        self,
        entries: Sequence[str],
        kind: Kind,
        unknown: Unknown = "refuse",
        unknown_token: str | None = None,
        *,
        lowercase: bool = False,
    ) -> None:
        self._lowercase = lowercase
        self.entries = tuple(entries)
        self.kind = kind
        self._unknown = unknown
        self._unknown_token = unknown_token
        self._ids = {entry: index for index, entry in enumerate(self.entries)}
        if len(self._ids) < len(self.entries):
            repeated = next(entry for index, entry in enumerate(self.entries) if self._ids[entry] != index)
            raise ValueError(f"the vocabulary lists {repeated!r} twice")
        if unknown == "token" and unknown_token not in self._ids:
            raise ValueError(f"unknown_token {unknown_token!r} is not in the vocabulary")
        missing = [shape for shape in SHAPES if f"{shape} " not in self._ids]
        if unknown == "suffix" and missing:
            raise ValueError(f"unknown = 'suffix' needs the entry {missing[0] + ' '!r} in the vocabulary")

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def of_ids(cls, size: int) -> Vocabulary:
        """The vocabulary of a model of which only the number of tokens is known: each entry is its own id, written."""
        return cls([str(index) for index in range(size)], "ids")

    @property
    def reads_text(self) -> bool:
        """Whether a text can be split into its tokens."""
        return self.kind != "ids"

    @property
    def separator(self) -> str:
        """What stands between two tokens of a text."""
        return "" if self.kind == "characters" else " "

    def split(self, text: str) -> list[str]:
        """The tokens of a text: its characters, or its words and marks."""
        text = text.lower() if self._lowercase else text
        return list(text) if self.kind == "characters" else words.split(text)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """The id of each token.

        Raises:
            UnknownToken: a token is not in the vocabulary and the rule for unknowns is `refuse`.
        """
        return [self._id(index, token) for index, token in enumerate(tokens)]

    def ids_of(self, text: str) -> list[int]:
        """The ids that write this text: an entry's own, or those of its tokens.

        Raises:
            UnknownToken: the vocabulary lacks one, whatever unknown ones are read as.
        """
        if text in self._ids:
            return [self._ids[text]]
        tokens = self.split(text)
        for index in self.unknown(tokens):
            raise UnknownToken(index, tokens[index])
        return self.encode(tokens)

    def unknown(self, tokens: Sequence[str]) -> list[int]:
        """The indices of the tokens that are no entries, whatever they are read as."""
        return [index for index, token in enumerate(tokens) if token not in self._ids]

    def join(self, ids: Iterable[int]) -> str:
        """The text that these ids write."""
        return self.separator.join(self.entries[index] for index in ids)

    def _id(self, index: int, token: str) -> int:
        known = self._ids.get(token)
        if known is not None:
            return known
        if self._unknown == "suffix":
            return self._by_suffix(token)
        if self._unknown == "token" and self._unknown_token is not None:
            return self._ids[self._unknown_token]
        raise UnknownToken(index, token)

    def _by_suffix(self, word: str) -> int:
        return next(self._ids[candidate] for candidate in (word.lower(), *endings(word)) if candidate in self._ids)


SHAPES = ("digit", "mark", "UPPER", "Title", "lower")


def endings(word: str) -> list[str]:
    """The entries "<shape> <ending>" that may stand for a word, longest ending first, the empty one last."""
    shape, lowered = shape_of(word), word.lower()
    longest = min(LONGEST_SUFFIX, len(lowered))
    return [f"{shape} {lowered[len(lowered) - length :]}" for length in range(longest, -1, -1)]


def shape_of(word: str) -> str:
    """The first of `SHAPES` that applies to a word."""
    letters = [character for character in word if character.isalpha()]
    if any(character.isdigit() for character in word):
        return "digit"
    if not letters:
        return "mark"
    if len(letters) > 1 and all(letter.isupper() for letter in letters):
        return "UPPER"
    return "Title" if word[0].isupper() else "lower"
