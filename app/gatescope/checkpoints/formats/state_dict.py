"""Where in what was saved the weights of the module are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from gatescope.checkpoints.formats.placeholders import QUANTISED, TENSORS, WHOLE_MODULE, Placeholder
from gatescope.checkpoints.formats.plain import NAMESPACE, Entries
from gatescope.checkpoints.formats.walk import classes, everything, holders, inside
from gatescope.errors import CheckpointError
from gatescope.names import LONGEST_NAME, RESAVE, listed, quoted
from gatescope.pipeline.stored_tensors import QUANTISED_DTYPES, StoredTensor

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

PARAMETER = ("weight", "bias")
"""How the last part of a parameter's name begins, where the module is one of PyTorch's."""

Leaf = StoredTensor | Placeholder | torch.dtype
"""What may stand where weights do; a type of numbers tells of a quantised module."""


class Found(NamedTuple):
    """The weights under the names that they were saved with, and where they stood."""

    tensors: dict[str, StoredTensor]
    notes: tuple[str, ...]
    beside: tuple[tuple[str, Any], ...]
    """What stood beside the weights by its name, from the outermost level inwards."""


def find(saved: Any) -> Found:
    """The tensors of the module in what was saved.

    Where a mapping holds them under a name that training scripts use, it is that one. Several of other names side by
    side, such as an encoder and a decoder, are all taken, their names in front.

    Raises:
        CheckpointError: there is no module's tensor in it, or something else stands where one should.
    """
    search = _Search(saved)
    place = saved
    notes: list[str] = []
    beside: list[tuple[str, Any]] = []
    while len(notes) < MOST_LEVELS and (chosen := search.inner(place)) is not None:
        notes.append(_note(place, chosen))
        beside += [(name, value) for name, value in _named(place) if name != chosen]
        place = search.entries(place)[chosen]
    leaves = {} if isinstance(place, StoredTensor) else search.leaves(place)
    tensors = _tensors(leaves)
    aside = classes(saved)
    _check(search, leaves, tensors, aside)
    counts = search.counts(place)
    others = [(name, value) for name, value in _named(place) if name not in counts]
    if others:
        notes.append(f"Beside the weights: {listed([name for name, _ in others])}.")
    return Found(tensors, (*_set_aside(aside), *notes), (*beside, *others))


def is_parameter(path: str) -> bool:
    """Whether PyTorch's own modules would give this name to a parameter."""
    return path.rpartition(".")[2].startswith(PARAMETER)


def is_optimizer(place: Any) -> bool:
    """Whether this is the state dict of an optimizer."""
    return isinstance(place, Entries) and place.named.keys() >= {"state", "param_groups"}


class _Search:
    """Looks for tensors in what was saved, and only into what holds some."""

    def __init__(self, saved: Any) -> None:
        self.saved = saved
        self._holders = holders(saved, _is_leaf)

    def inner(self, place: Any) -> str | None:
        """The name under which to look further; None where the weights stand."""
        counts = self.counts(place)
        entries = self.entries(place)
        conventional = [
            name for name in CONVENTIONAL if counts.get(name) and not isinstance(entries[name], StoredTensor)
        ]
        if conventional:
            return max(conventional, key=lambda name: counts[name])
        if any(isinstance(value, StoredTensor) for value in entries.values()):
            return None
        trained = [name for name in counts if not AVERAGED.search(name)] or list(counts)[:1]
        return trained[0] if len(trained) == 1 else None

    def counts(self, place: Any) -> dict[str, int]:
        """How many tensors of a module stand under each name; of a container under several, under the first."""
        seen: set[int] = set()
        counts = {name: len(_tensors(self.leaves(value, seen))) for name, value in self.entries(place).items()}
        return {name: count for name, count in counts.items() if count}

    def leaves(self, place: Any, seen: set[int] | None = None) -> dict[str, Leaf]:
        """Every tensor and placeholder in here by its path, no optimizer's; each container is walked through once."""
        leaves: dict[str, Leaf] = {}
        walked = set() if seen is None else seen
        waiting: list[tuple[str, Any, int]] = [("", place, 0)]
        while waiting:
            path, value, level = waiting.pop()
            if isinstance(value, Leaf):
                leaves[path] = value
            elif level < MOST_LEVELS and id(value) not in walked:
                walked.add(id(value))
                waiting += [
                    (f"{path}.{name}" if path else name, each, level + 1)
                    for name, each in reversed(self.entries(value).items())
                    if _fits(path, name, each)
                ]
        return leaves

    def entries(self, place: Any) -> dict[str, Any]:
        """What holds tensors or placeholders of a module in a mapping or sequence."""
        if is_optimizer(place):
            return {}
        return {
            name: value
            for name, value in _named(place)
            if isinstance(value, Leaf) or (id(value) in self._holders and not TRAINING.search(name))
        }


def _is_leaf(value: Any) -> bool:
    return isinstance(value, Leaf)


def _check(search: _Search, leaves: dict[str, Leaf], tensors: dict[str, StoredTensor], aside: list[str]) -> None:
    """Something else than dense tensors does not stand where weights should."""
    everywhere = search.leaves(search.saved)
    wanted = leaves if tensors else everywhere
    if any(_is_quantised(leaf) for leaf in wanted.values()):
        raise CheckpointError(QUANTISED)
    if _holds_module(everywhere, len(tensors)):
        raise CheckpointError(WHOLE_MODULE)
    for path, leaf in wanted.items():
        if isinstance(leaf, Placeholder) and (is_parameter(path) or (not tensors and leaf.name in TENSORS)):
            raise CheckpointError(leaf.refusal(path))
    if not tensors:
        names = [name for name, _ in _named(search.saved)]
        only = f", only {listed(names)}" if names else ""
        unread = f" (not read: objects of {listed(aside)})" if aside else ""
        raise CheckpointError(f"it holds no weights by name{only}{unread}; {RESAVE}")


def _is_quantised(leaf: Leaf) -> bool:
    if isinstance(leaf, Placeholder):
        return leaf.is_quantised
    return (leaf if isinstance(leaf, torch.dtype) else leaf.dtype) in QUANTISED_DTYPES


def _holds_module(leaves: dict[str, Leaf], found: int) -> bool:
    """Whether a whole module was saved that has more tensors than were found: then it is what was meant."""
    seen: set[int] = set()
    for leaf in leaves.values():
        if isinstance(leaf, Placeholder) and leaf.is_module:
            tensors = {id(each) for each in everything(leaf, seen) if isinstance(each, StoredTensor)}
            if not found or len(tensors) > found:
                return True
    return False


def _set_aside(names: list[str]) -> tuple[str, ...]:
    """A note of the classes of which objects were not read, and of the tensors that are not plain."""
    kinds = [TENSORS[name] for name in names if name in TENSORS]
    objects = [name for name in names if name not in TENSORS]
    notes = (f"Not read: objects of {listed(objects)}.",) if objects else ()
    return (*notes, f"Not read: {', '.join(kinds)}.") if kinds else notes


def _tensors(leaves: dict[str, Leaf]) -> dict[str, StoredTensor]:
    return {path: leaf for path, leaf in leaves.items() if isinstance(leaf, StoredTensor)}


def _fits(path: str, name: str, value: Any) -> bool:
    """Whether the path to a thing stays short: a file may nest long names as often as it likes."""
    fits = len(path) + len(name) <= LONGEST_NAME
    if not fits and isinstance(value, StoredTensor):
        raise CheckpointError(f"the name that begins with {quoted(name)} is too long; {RESAVE}")
    return fits


def _named(place: Any) -> Iterable[tuple[str, Any]]:
    """What stands in a mapping under its name, in a sequence under its number, in anything else nothing."""
    if isinstance(place, Entries):
        return place.named.items() if place.kind != NAMESPACE else ()
    return ((str(index), value) for index, value in enumerate(inside(place)))


def _note(place: Any, chosen: str) -> str:
    others = [name for name, _ in _named(place) if name != chosen]
    beside = f"; beside them: {listed(others)}" if others else ""
    return f"The weights are those under {quoted(chosen)}{beside}."
