"""The text, and the textual states of each of its characters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]

SOURCE = "input.txt of Tiny Shakespeare: https://github.com/karpathy/char-rnn, commit 6f9487a6"
TEST = 0.9
"""The last tenth of the file was not trained on."""

WARM_UP = 100
"""First characters of a passage, which are not measured."""

LATE = 30
"""From this column on a place is late in its line."""


@dataclass(frozen=True)
class Passage:
    """A part of the test text that begins with a speech."""

    text: str

    @property
    def measured(self) -> Flags:
        """Behind the warm-up; the last character has no next one to predict."""
        places = np.arange(len(self.text) - 1)
        return np.asarray(places >= WARM_UP)

    def state(self, name: str) -> Flags:
        """Whether each character, without the last, is in this state."""
        return STATES[name](self.text)[:-1]


def read(path: Path, count: int, length: int) -> list[Passage]:
    """Passages spread over the test part; ends the process with one line if the text is not there."""
    if not path.is_file():
        raise SystemExit(f"{path} is missing: the study reads {SOURCE}")
    text = path.read_text(encoding="utf-8")
    text = text[int(TEST * len(text)) :]
    starts = np.linspace(0, len(text) - 2 * length, count).astype(int)
    begins = [text.index("\n\n", start) + 2 for start in starts]
    return [Passage(text[begin : begin + length]) for begin in begins]


def in_name(text: str) -> Flags:
    """Inside the line that names a speaker: from a blank line to the colon at the end of the next."""
    found = np.zeros(len(text), dtype=bool)
    place = 0
    for paragraph in text.split("\n\n"):
        name, colon, _ = paragraph.partition(":\n")
        if colon and "\n" not in name:
            found[place : place + len(name)] = True
        place += len(paragraph) + 2
    return found


def late(text: str) -> Flags:
    """At column 30 of its line or later."""
    columns = [column for line in text.split("\n") for column in range(len(line) + 1)]
    return np.array(columns[: len(text)]) >= LATE


def in_question(text: str) -> Flags:
    """Inside a clause that will end with a question mark, behind its first word."""
    found = np.zeros(len(text), dtype=bool)
    begin = 0
    for place, character in enumerate(text):
        if character in ".!?:;":
            first_word = text.find(" ", begin + 2, place)
            if character == "?" and first_word >= 0:
                found[first_word:place] = True
            begin = place + 1
    return found


STATES: dict[str, Callable[[str], Flags]] = {
    "speaker's name": in_name,
    "late in a line": late,
    "inside a question": in_question,
}
"""Each state with what finds it in a text."""
