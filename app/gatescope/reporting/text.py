"""What can be said of each token of a text without knowing the language: classes, and series such as a depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

LINE_END = frozenset({"\n"})
OPENING, CLOSING = "([{", ")]}"
QUOTES = frozenset({'"', "“", "”", "``", "''"})

_CLASSES: Mapping[str, Callable[[str], bool]] = {
    "letters": str.isalpha,
    "capitals": lambda token: token[:1].isupper(),
    "digits": lambda token: token[:1].isdigit(),
    "spaces": lambda token: token.isspace() and token not in LINE_END,
    "line ends": lambda token: token in LINE_END,
    "marks": lambda token: bool(token) and not any(each.isalnum() or each.isspace() for each in token),
}


def classes(tokens: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Class -> (step,) 1 where a token is of it, sequences one after another; those that some tokens are of."""
    flat = [token for row in tokens for token in row]
    made = {name: np.array([is_of(token) for token in flat], dtype=float) for name, is_of in _CLASSES.items()}
    made["inside quotation marks"] = np.concatenate([_quoted(row) for row in tokens])
    made["inside brackets"] = (np.concatenate([_depths(row) for row in tokens]) > 0).astype(float)
    return {name: values for name, values in made.items() if 0 < values.mean() < 1}


def series(tokens: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Name -> (step,) a number of each token; those that change."""
    made = {
        "the depth of brackets": np.concatenate([_depths(row) for row in tokens]),
        "the place in the line": np.concatenate([_since(row, "\n") for row in tokens]),
        "the place in the word": np.concatenate([_since(row, " ") for row in tokens]),
    }
    given = {token for row in tokens for token in row}
    if "\n" not in given:
        del made["the place in the line"]
    if " " not in given:
        del made["the place in the word"]
    return {name: values for name, values in made.items() if np.ptp(values) > 0}


def _depths(tokens: Sequence[str]) -> np.ndarray:
    """How many brackets are open behind each token, 0 at least."""
    depth, made = 0, []
    for token in tokens:
        depth = max(0, depth + (token in OPENING and token != "") - (token in CLOSING and token != ""))
        made.append(depth)
    return np.array(made, dtype=float)


def _quoted(tokens: Sequence[str]) -> np.ndarray:
    """1 from behind an opening quotation mark up to the closing one."""
    is_open, made = False, []
    for token in tokens:
        is_mark = token in QUOTES
        made.append(float(is_open and not is_mark))
        is_open ^= is_mark
    return np.array(made)


def _since(tokens: Sequence[str], mark: str) -> np.ndarray:
    """How many tokens ago the mark, or the beginning, was."""
    count, made = 0, []
    for token in tokens:
        count = 0 if token == mark else count + 1
        made.append(count)
    return np.array(made, dtype=float)
