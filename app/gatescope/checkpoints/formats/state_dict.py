"""Where in what was saved the weights of the module are."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from torch import Tensor

from gatescope.checkpoints.formats.names import LONGEST_NAME, RESAVE, listed, quoted
from gatescope.errors import CheckpointError

MOST_LEVELS = 16

CONVENTIONAL = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
)
"""What training scripts call the weights, beside everything else that they save."""

AVERAGED = re.compile(r"(^|_)(ema|swa)(_|$)|averag", re.IGNORECASE)
"""A second set of the weights, for want of a first."""

TRAINING = re.compile(r"optim|sched|scaler|^opts?$|callbacks|^loops$|hyper_?param", re.IGNORECASE)
"""What holds tensors, but no module's."""


class Found(NamedTuple):
    """The weights under the names that they were saved with, and where they stood."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


def find(saved: Any) -> Found:
    """The tensors of the module in what was saved.

    Where a mapping holds them under a name that training scripts use, it is that one. Several of other names side by
    side, such as an encoder and a decoder, are all taken, their names in front.

    Raises:
        CheckpointError: there is no module's tensor in it.
    """
    place = saved
    notes: list[str] = []
    while len(notes) < MOST_LEVELS and (chosen := _inner(place)) is not None:
        notes.append(_note(place, chosen))
        place = _entries(place)[chosen]
    tensors = _flat(place)
    if not tensors or isinstance(place, Tensor):
        names = list(_named(saved))
        raise CheckpointError(f"it holds no weights by name{f', only {listed(names)}' if names else ''}; {RESAVE}")
    counts = _counts(place)
    others = [name for name in _named(place) if name not in counts]
    if others:
        notes.append(f"Not read, because these are no weights: {listed(others)}.")
    return Found(tensors, tuple(notes))


def _inner(place: Any) -> str | None:
    """The name under which to look further; None where the weights stand."""
    counts = _counts(place)
    conventional = [name for name in CONVENTIONAL if counts.get(name) and not isinstance(_named(place)[name], Tensor)]
    if conventional:
        return max(conventional, key=lambda name: counts[name])
    if any(isinstance(value, Tensor) for value in _named(place).values()):
        return None
    trained = [name for name in counts if not AVERAGED.search(name)] or list(counts)[:1]
    return trained[0] if len(trained) == 1 else None


def _counts(place: Any) -> dict[str, int]:
    """How many tensors of a module stand under each name; where a container stands under several, under the first."""
    seen: set[int] = set()
    counts = {name: len(_flat(value, seen)) for name, value in _entries(place).items()}
    return {name: count for name, count in counts.items() if count}


def _flat(place: Any, seen: set[int] | None = None) -> dict[str, Tensor]:
    """Every tensor in here by its path, of which no optimizer's; each container is walked through once."""
    tensors: dict[str, Tensor] = {}
    walked = set() if seen is None else seen
    waiting: list[tuple[str, Any, int]] = [("", place, 0)]
    while waiting:
        path, value, level = waiting.pop()
        if isinstance(value, Tensor):
            tensors[path] = value
        elif level < MOST_LEVELS and id(value) not in walked:
            walked.add(id(value))
            waiting += [
                (f"{path}.{name}" if path else name, each, level + 1)
                for name, each in reversed(_entries(value).items())
                if _fits(path, name, each)
            ]
    return tensors


def _fits(path: str, name: str, value: Any) -> bool:
    """Whether the path to a thing stays short: a file may nest long names as often as it likes."""
    fits = len(path) + len(name) <= LONGEST_NAME
    if not fits and isinstance(value, Tensor):
        raise CheckpointError(f"the name that begins with {quoted(name)} is too long; {RESAVE}")
    return fits


def _entries(place: Any) -> dict[str, Any]:
    """What may hold a module's weights in a mapping or sequence."""
    if _is_optimizer(place):
        return {}
    return {
        name: value
        for name, value in _named(place).items()
        if isinstance(value, Tensor) or (isinstance(value, dict | list | tuple) and not TRAINING.search(name))
    }


def _named(place: Any) -> dict[str, Any]:
    """What stands in a mapping by its name, in a sequence by its number, in anything else nothing."""
    if isinstance(place, dict):
        return {name: value for name, value in dict.items(place) if isinstance(name, str)}
    return {str(index): value for index, value in enumerate(place)} if isinstance(place, list | tuple) else {}


def _is_optimizer(place: Any) -> bool:
    return isinstance(place, dict) and dict.keys(place) >= {"state", "param_groups"}


def _note(place: Any, chosen: str) -> str:
    others = [name for name in _named(place) if name != chosen]
    beside = f"; what stands beside them is not read: {listed(others)}" if others else ""
    return f"The weights are those under {quoted(chosen)}{beside}."
