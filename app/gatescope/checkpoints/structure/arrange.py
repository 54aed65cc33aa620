"""`Arrangement`: in which order the parts of a checkpoint may stand, and what has no place among them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import NoReturn

from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.kinds import (
    CRF,
    OF_A_LOSS,
    Conv1d,
    Embedding,
    FoundRecurrent,
    Linear,
    Norm,
    Other,
    Part,
)
from gatescope.checkpoints.structure.options import NONE, Options
from gatescope.errors import InvalidInput, Place, WeightsError
from gatescope.names import listed, quoted

MAX_ORDERS = 40
"""Orders of the same parts that are looked at."""

MAX_PERMUTED = 7
"""Parts of which every order is looked at; of more, that of the file alone."""

_STATE = re.compile(
    r"(.*[._])?(?:(?:lstm_?)?(?:init(?:ial)?_?)?(?P<state>h|c|hx|cx|hidden|cell)(?:_?state)?_?(?:0|init)?|"
    r"(?P<short>[hc])_?n?_?0)",
    re.IGNORECASE,
)

Placed = Linear | Conv1d | Norm | CRF
"""What may stand before or behind the recurrent layers."""


@dataclass(frozen=True)
class Arrangement:
    """Parts in an order in which their widths fit."""

    embedding: Embedding | None
    before: tuple[Placed, ...]
    recurrent: tuple[FoundRecurrent | Norm, ...]
    """The recurrent layers, with the norms between them."""
    join: str
    """How several recurrent layers are joined: `stacked`, `residual`, `parallel`, `parallel=add`."""
    behind: tuple[Placed, ...]
    left: tuple[tuple[Part, str], ...] = ()
    """What has no place, each with where it would stand: `before` or `behind`."""
    learned: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Path of a recurrent layer -> its state -> the weight that is its learned initial value."""

    @property
    def lstms(self) -> list[FoundRecurrent]:
        """The recurrent layers."""
        return [part for part in self.recurrent if isinstance(part, FoundRecurrent)]

    @property
    def input_width(self) -> int:
        """How many numbers the first recurrent layer takes."""
        return self.lstms[0].spec.input_size

    @property
    def output_width(self) -> int:
        """How many numbers the recurrent layers give together."""
        if self.join == "parallel":
            return sum(lstm.spec.output_size for lstm in self.lstms)
        return self.lstms[-1].spec.output_size

    @property
    def is_complete(self) -> bool:
        """Whether everything has a place."""
        return not self.left

    def missing(self, place: str) -> list[Part]:
        """What has no place before, or behind, the recurrent layers."""
        return [part for part, stands in self.left if stands == place]


@dataclass
class Arranger:
    """Finds the arrangements of a checkpoint's parts.

    Args:
        contents: of the checkpoint.
        options: what is stated.
    """

    contents: Contents
    options: Options

    def arrangements(self, *, in_any_order: bool = False) -> list[Arrangement]:
        """Every arrangement that the file leaves open, the likeliest first.

        Where parts have no place in any, it is the one arrangement that leaves out the fewest.

        Args:
            in_any_order: whether to look at other orders than that of the file, where the file keeps one.

        Raises:
            InvalidInput: an option names what is not there or does not fit.
            WeightsError: there is no recurrent layer.
        """
        lstms = self._lstms()
        joins = self._joins(lstms)
        complete: list[Arrangement] = []
        if self.contents.ordered and not in_any_order:
            found = [each for join in joins for each in self._of(lstms, join, in_any_order=False)]
            complete = [each for each in found if each.is_complete]
        if not complete:
            found = [each for join in joins for each in self._of(lstms, join, in_any_order=True)]
            complete = [each for each in found if each.is_complete]
        return complete or [min(found, key=lambda each: len(each.left))]

    def _of(self, lstms: Sequence[FoundRecurrent], join: str, *, in_any_order: bool) -> Iterator[Arrangement]:
        learned, states = self.learned(lstms)
        known = {*lstms, *states}
        rest = [part for part in self.contents.parts if part not in known and not self._is_aside(part)]
        placed = [part for part in rest if isinstance(part, Placed)]
        for embedding in self._embeddings(lstms, rest):
            others = [part for part in rest if part not in placed and part is not embedding]
            left = [(part, self._place(part, lstms)) for part in others]
            width = None if embedding is None else embedding.embedding_dim
            orders = list(islice(self._orders(lstms, join, placed, width, in_any_order=in_any_order), MAX_ORDERS))
            for order in orders or [self._partial(lstms, placed, width, left)]:
                whole = (*order.left, *left)
                yield Arrangement(embedding, order.before, order.recurrent, join, order.behind, whole, learned)

    def _lstms(self) -> list[FoundRecurrent]:
        found = [lstm for lstm in self.contents.lstms if not self._is_aside(lstm)]
        if self.options.prefix:
            return self.named("prefix", self.options.prefix, found)  # type: ignore[return-value]
        if not found:
            raise WeightsError(_no_lstm(self.contents))
        if len(found) > 1 and not _are_numbered(found):
            refuse("prefix", f"the checkpoint holds {len(found)} LSTMs, {_sizes(found)}: name the one to serve")
        return sorted(found, key=number)

    def _joins(self, lstms: Sequence[FoundRecurrent]) -> list[str]:
        """How several recurrent layers may be joined, by their widths, where it is not stated."""
        if len(lstms) == 1:
            return ["stacked"]
        possible = [join for join, fits in _JOINS.items() if fits(lstms)]
        stated = self.options.join or ("stacked" if self.options.prefix else None)
        if stated is not None and stated not in possible:
            refuse("join" if self.options.join else "prefix", _why_not(lstms, stated))
        if not possible:
            refuse("prefix", f"{_why_not(lstms, 'stacked')}: name the one LSTM to serve")
        return [stated] if stated else possible

    def _embeddings(self, lstms: Sequence[FoundRecurrent], rest: Sequence[Part]) -> list[Embedding | None]:
        found = [part for part in rest if isinstance(part, Embedding)]
        if self.options.embedding == NONE:
            return [None]
        if self.options.embedding is not None:
            return self.named("embedding", (self.options.embedding,), found)  # type: ignore[return-value]
        fitting = [table for table in found if len(found) == 1 or table.embedding_dim == lstms[0].spec.input_size]
        return [*fitting, *([] if fitting else [None])]

    def _orders(
        self,
        lstms: Sequence[FoundRecurrent],
        join: str,
        placed: Sequence[Placed],
        width: int | None,
        *,
        in_any_order: bool,
    ) -> Iterator[_Order]:
        """The orders in which all parts fit: that of the file, or every one."""
        if self.contents.ordered:
            yield from self._fitting(lstms, join, self._split(lstms, placed), width, in_file_order=not in_any_order)
        if not in_any_order or len(placed) > MAX_PERMUTED:
            return
        for split in _splits(placed, self._head(placed)):
            yield from self._fitting(lstms, join, split, width, in_file_order=False)

    def _split(self, lstms: Sequence[FoundRecurrent], placed: Sequence[Placed]) -> _Split:
        """What stands before, between and behind the recurrent layers in the file; a stated head stands behind."""
        first, last = self._ends(lstms)
        head = self._head(placed)
        free = [part for part in placed if part not in head]
        before = [part for part in free if self.contents.may_precede(part, first)]
        behind = [part for part in free if self.contents.may_follow(part, last)]
        between = [part for part in free if part not in before and part not in behind]
        if head:
            behind = _merged(head, behind, self.contents)
        return _Split(before, between, behind)

    def _ends(self, lstms: Sequence[FoundRecurrent]) -> tuple[FoundRecurrent, FoundRecurrent]:
        """The first and the last of the recurrent layers in the file."""
        order = [part for part in self.contents.parts if isinstance(part, FoundRecurrent) and part in lstms]
        return order[0], order[-1]

    def _fitting(
        self, lstms: Sequence[FoundRecurrent], join: str, split: _Split, width: int | None, *, in_file_order: bool
    ) -> Iterator[_Order]:
        recurrent = _with_norms(lstms, split.between, join)
        if recurrent is None:
            return
        last = lstms[-1].spec
        ends = {sum(lstm.spec.output_size for lstm in lstms)} if join == "parallel" else {last.output_size}
        if join != "parallel":
            ends.add(last.hidden_state_size)  # of one direction, or the sum of both
        chains = _given_order if in_file_order else _chains
        for first in chains(split.before, {width} if width else None, lstms[0].spec.input_size):
            for then in chains(split.behind, ends, None):
                yield _Order(first, tuple(recurrent), then)

    def _head(self, placed: Sequence[Placed]) -> list[Placed]:
        """The layers that are stated to be the head."""
        if self.options.head in {(), (NONE,)}:
            return []
        linear = [part for part in placed if isinstance(part, Linear)]
        return self.named("head", self.options.head, linear)  # type: ignore[return-value]

    def _partial(
        self,
        lstms: Sequence[FoundRecurrent],
        placed: Sequence[Placed],
        width: int | None,
        others: Sequence[tuple[Part, str]],
    ) -> _Order:
        """The recurrent layers, with what stands before them if that is complete."""
        before = [part for part in placed if self._place(part, lstms) == "before"]
        left: list[tuple[Part, str]] = [(part, "behind") for part in placed if part not in before]
        chain = next(_given_order(before, {width} if width else None, lstms[0].spec.input_size), None)
        if chain is None or any(place == "before" for _, place in others):
            return _Order((), tuple(lstms), (), (*((part, "before") for part in before), *left))
        return _Order(chain, tuple(lstms), (), tuple(left))

    def _place(self, part: Part, lstms: Sequence[FoundRecurrent]) -> str:
        """Where a part without a place would stand; where the file does not say, before: what comes in is not known."""
        first, last = self._ends(lstms)
        if self.contents.ordered:
            return "before" if self.contents.may_precede(part, first) else "behind"
        feeds = isinstance(part, Linear) and part.out_features == first.spec.input_size
        reads = isinstance(part, Linear) and part.in_features == last.spec.output_size
        return "behind" if reads and not feeds else "before"

    def _is_aside(self, part: Part) -> bool:
        """Whether a part is of a loss, or to be ignored."""
        if isinstance(part, Other) and part.kind == OF_A_LOSS:
            return True
        names = [part.path] if part.path or not isinstance(part, Other) else list(part.shapes)
        return all(any(_is_below(name, ignored) for ignored in self.options.ignore) for name in names)

    def learned(self, lstms: Sequence[FoundRecurrent]) -> tuple[dict[str, dict[str, str]], list[Part]]:
        """The learned initial states of the recurrent layers, and the parts that are nothing else."""
        learned: dict[str, dict[str, str]] = {}
        taken: list[Part] = []
        for part in self.contents.others:
            states = {name: _state_of(name) for name in part.shapes}
            if None in states.values() or len(lstms) != 1:
                continue
            spec = lstms[0].spec
            sizes = dict(zip(spec.cell.states, spec.state_sizes, strict=True))
            fits = all(
                _count(part.shapes[name]) == spec.state_entries * sizes[state]
                for name, state in states.items()
                if state is not None
            )
            if fits and len(set(states.values())) == len(states):
                full = {state: f"{part.path}.{name}" if part.path else name for name, state in states.items() if state}
                learned[lstms[0].path] = full
                taken.append(part)
        return learned, taken

    def named(self, option: str, paths: Sequence[str], found: Sequence[Part]) -> list[Part]:
        """The parts that stand at these paths or below them, in the order of the paths and of their numbers."""
        chosen: list[Part] = []
        for path in paths:
            stem = path.removesuffix(".")
            below = [part for part in found if _is_below(part.path, stem)]
            if not below:
                refuse(option, _nothing_at(stem, found, self.contents))
            chosen += [part for part in sorted(below, key=number) if part not in chosen]
        return chosen


@dataclass(frozen=True)
class _Order:
    before: tuple[Placed, ...]
    recurrent: tuple[FoundRecurrent | Norm, ...]
    behind: tuple[Placed, ...]
    left: tuple[tuple[Part, str], ...] = ()


@dataclass(frozen=True)
class _Split:
    before: Sequence[Placed]
    between: Sequence[Placed]
    behind: Sequence[Placed]


def number(part: Part) -> list[int]:
    """A key that sorts parts by the numbers in their paths."""
    return [int(digits) for digits in re.findall(r"\d{1,18}", part.path)]


def refuse(option: str, message: str) -> NoReturn:
    """Raise `InvalidInput` at an option."""
    raise InvalidInput.at(Place((option,), message))


def _fit(lstms: Sequence[FoundRecurrent]) -> bool:
    return all(below.spec.output_size == above.spec.input_size for below, above in pairwise(lstms))


def _are_residual(lstms: Sequence[FoundRecurrent]) -> bool:
    """Whether the input of any of them could be added to its output."""
    return _fit(lstms) and any(lstm.spec.output_size == lstm.spec.input_size for lstm in lstms)


def _are_parallel(lstms: Sequence[FoundRecurrent]) -> bool:
    return len({lstm.spec.input_size for lstm in lstms}) == 1


def _can_be_added(lstms: Sequence[FoundRecurrent]) -> bool:
    return _are_parallel(lstms) and len({lstm.spec.output_size for lstm in lstms}) == 1


_JOINS = {
    "stacked": _fit,
    "residual": _are_residual,
    "parallel": _are_parallel,
    "parallel=add": _can_be_added,
}


def _why_not(lstms: Sequence[FoundRecurrent], join: str) -> str:
    for below, above in pairwise(lstms):
        gives, takes = below.spec.output_size, above.spec.input_size
        if join in {"stacked", "residual"} and gives != takes:
            return f"{below} gives {gives} values, but {above} takes {takes}"
    return f"the widths of {listed([lstm.path for lstm in lstms])} do not allow {join!r}"


def _given_order(parts: Sequence[Placed], starts: set[int] | None, ends: int | None) -> Iterator[tuple[Placed, ...]]:
    """The parts in the given order, if each takes what the one before gives; as `_chains` else."""
    width = starts
    for part in parts:
        takes, gives = _widths(part, width)
        if not takes:
            return
        width = {gives}
    if width is None or ends is None or ends in width:
        yield tuple(parts)


def _chains(parts: Sequence[Placed], starts: set[int] | None, ends: int | None) -> Iterator[tuple[Placed, ...]]:
    """Every order of the parts in which each takes what the one before gives; the given order first.

    Args:
        parts: all of which are used.
        starts: widths of what comes before them; None of any.
        ends: the width that comes after them; None of any.
    """
    if not parts:
        if starts is None or ends is None or ends in starts:
            yield ()
        return
    for part in parts:
        rest = [other for other in parts if other is not part]
        is_early = any(_series(other) == _series(part) and number(other) < number(part) for other in rest)
        takes, gives = _widths(part, starts)
        if takes and not is_early and not (isinstance(part, CRF) and rest):
            yield from ((part, *chain) for chain in _chains(rest, {gives}, ends))


def _widths(part: Placed, given: set[int] | None) -> tuple[bool, int]:
    """Whether a part takes one of the widths, and what it gives."""
    if isinstance(part, Linear):
        return given is None or part.in_features in given, part.out_features
    if isinstance(part, Conv1d):
        return given is None or any(width % part.in_features == 0 for width in given), part.out_features
    width = part.width if isinstance(part, Norm) else part.labels
    return given is None or width in given, width


def _splits(parts: Sequence[Placed], head: Sequence[Placed]) -> Iterator[_Split]:
    """Every way to put parts before the recurrent layers, and the others behind; most of them behind first."""
    free = [part for part in parts if part not in head]
    for bits in sorted(range(2 ** len(free)), key=int.bit_count):
        before = [part for index, part in enumerate(free) if bits >> index & 1]
        yield _Split(before, [], [*(part for part in free if part not in before), *head])


def _merged(head: Sequence[Placed], behind: Sequence[Placed], contents: Contents) -> list[Placed]:
    """The stated head in its order, with the other parts behind the recurrent layers where the file has them."""
    merged = [*head]
    for part in behind:
        before = [other for other in merged if contents.parts.index(other) < contents.parts.index(part)]
        merged.insert(1 + max((merged.index(other) for other in before), default=-1), part)
    return merged


def _with_norms(
    lstms: Sequence[FoundRecurrent], between: Sequence[Placed], join: str
) -> list[FoundRecurrent | Norm] | None:
    """The recurrent layers with a norm behind each but the last; None where something else stands between."""
    if not between:
        return [*lstms]
    norms = [part for part in between if isinstance(part, Norm)]
    if join == "parallel" or len(norms) < len(between) or len(norms) != len(lstms) - 1:
        return None
    if any(norm.width != lstm.spec.output_size for norm, lstm in zip(norms, lstms, strict=False)):
        return None
    pairs = zip(lstms, norms, strict=False)
    return [*(part for pair in pairs for part in pair), lstms[-1]]


def _are_numbered(parts: Sequence[Part]) -> bool:
    """Whether the parts' paths are alike but for their numbers: `lstm1` and `lstm2`, `cells.0` and `cells.1`."""
    return len({_series(part) for part in parts}) == 1


def _series(part: Part) -> str:
    """What a path has in common with others that are numbered like it."""
    return re.sub(r"\d+", "", part.path)


def _is_below(path: str, stem: str) -> bool:
    return path == stem or path.startswith(f"{stem}.")


def _state_of(name: str) -> str | None:
    """Which state a weight of this name is the initial value of."""
    match = _STATE.fullmatch(name)
    if match is None:
        return None
    letter = (match["state"] or match["short"])[0].lower()
    return {"h": "hidden_state", "c": "cell_state"}[letter]


def _count(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _nothing_at(path: str, found: Sequence[Part], contents: Contents) -> str:
    there = next((part for part in contents.parts if part.path == path), None)
    reason = getattr(there, "reason", None) or (there and f"is {getattr(there, 'kind', '')}") or "is not in it"
    have = listed([part.path for part in found]) if found else "none"
    return f"{quoted(path)} {reason}; the checkpoint has {have}"


def _no_lstm(contents: Contents) -> str:
    broken = next((part.reason for part in contents.others if part.reason), None)
    if broken is not None:
        return broken
    have = listed([part.path for part in contents.parts])
    return f"there is no nn.LSTM, nn.GRU or nn.RNN in the checkpoint; it has {have}"


def _sizes(lstms: Sequence[FoundRecurrent]) -> str:
    return ", ".join(f"{lstm} ({lstm.spec.input_size} → {lstm.spec.output_size})" for lstm in lstms)
