"""`Parts`: which of a checkpoint's modules are served, chosen by options or guessed by shapes and names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from torch import Tensor

from gatescope.checkpoints.formats.names import listed
from gatescope.checkpoints.structure import heads
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.heads import Untellable
from gatescope.checkpoints.structure.kinds import Embedding, FoundLSTM, Linear, Other, Part
from gatescope.checkpoints.structure.options import NONE, Options
from gatescope.checkpoints.structure.stack import Stack, are_numbered, number
from gatescope.errors import InvalidInput, Place, WeightsError

AnyPart = TypeVar("AnyPart", bound=Part)


@dataclass(frozen=True)
class Parts:
    """An LSTM, what may stand before it and what may stand behind it."""

    stack: Stack
    embedding: Embedding | None
    head: tuple[Linear, ...]
    headless: str
    """Why there is no head; empty where there is one."""
    notes: tuple[str, ...]

    def weights(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a checkpoint under the service's own names."""
        renamed = {f"lstm.{name}": stored for name, stored in self.stack.names.items()}
        if self.embedding is not None:
            renamed["embedding.weight"] = _name(self.embedding, "weight")
        for index, layer in enumerate(self.head):
            for name in ("weight", "bias")[: 1 + layer.bias]:
                renamed[f"head.{2 * index}.{name}"] = _name(layer, name)
        return {name: given[stored] for name, stored in renamed.items()}

    def unused(self, contents: Contents) -> list[Part]:
        """What is left over."""
        used = {*self.stack.lstms, self.embedding, *self.head}
        return [part for part in contents.parts if part not in used]

    @classmethod
    def choose(cls, contents: Contents, options: Options) -> Parts:
        """Choose what the options name, and guess the rest.

        Raises:
            InvalidInput: an option names what is not there or does not fit, or must be given.
            WeightsError: there is no LSTM.
        """
        stack = _stack(contents, options)
        embedding, of_embedding = _embedding(contents, stack, options)
        head, headless = _head(contents, stack, options)
        chosen = cls(stack, embedding, head, headless, ())
        notes = [*_of_stack(stack, options), *of_embedding, *_of_head(chosen, options)]
        if unused := chosen.unused(contents):
            notes.append(f"Left out: {listed([name for part in unused for name in _names(part)])}.")
        return cls(stack, embedding, head, headless, tuple(notes))


def _stack(contents: Contents, options: Options) -> Stack:
    found = contents.lstms
    if options.prefix:
        chosen = _named("prefix", options.prefix, found, contents)
    elif not found:
        raise WeightsError(_no_lstm(contents))
    elif len(found) == 1 or _are_stacked(found, contents):
        chosen = sorted(found, key=number)
    else:
        _refuse("prefix", f"the checkpoint holds {len(found)} LSTMs, {_sizes(found)}: name the one to serve")
    try:
        return Stack.of(chosen)
    except ValueError as error:
        _refuse("prefix", f"{error}: name the one LSTM to serve")


def _are_stacked(lstms: Sequence[FoundLSTM], contents: Contents) -> bool:
    """Whether LSTMs are named like a stack, and nothing that has weights may stand between them."""
    if contents.obstacles or not are_numbered(lstms):
        return False
    first, last = min(lstms, key=number), max(lstms, key=number)
    between = [
        layer
        for layer in contents.linear_layers
        if contents.may_follow(layer, first) and contents.may_precede(layer, last)
    ]
    widths = {lstm.spec.output_size for lstm in lstms} & {lstm.spec.input_size for lstm in lstms}
    return not any(contents.ordered or {layer.in_features, layer.out_features} <= widths for layer in between)


def _embedding(contents: Contents, stack: Stack, options: Options) -> tuple[Embedding | None, list[str]]:
    width, found = stack.spec.input_size, contents.embeddings
    if options.embedding == NONE:
        return None, []
    if options.embedding is not None:
        chosen = _named("embedding", (options.embedding,), found, contents)[0]
        if chosen.embedding_dim != width:
            _refuse("embedding", f"{chosen}'s rows have {chosen.embedding_dim} values, but the LSTM takes {width}")
        return chosen, []
    fitting = [table for table in found if table.embedding_dim == width]
    if not fitting:
        return None, []
    shown = f"{fitting[0]} ({fitting[0].num_embeddings} × {width})"
    between = [part for part in heads.unserved(contents, stack) if contents.may_precede(part, stack.lstms[0])]
    if len(fitting) > 1 or between:
        why = f"so could {fitting[1]}" if len(fitting) > 1 else f"{between[0]} ({between[0].kind}) may stand between"
        return None, [f"No embedding: {shown} could be it, but {why} (--embedding PATH if it is)."]
    return fitting[0], [f"Embedding: {shown}, as wide as the LSTM's input (--embedding none to leave it out)."]


def _head(contents: Contents, stack: Stack, options: Options) -> tuple[tuple[Linear, ...], str]:
    if options.head == (NONE,):
        return (), "the head is left out"
    try:
        if not options.head:
            return heads.find(contents, stack), ""
    except Untellable as error:
        return (), str(error)
    try:
        layers = _named("head", options.head, contents.linear_layers, contents)
        return heads.chained(layers, stack.spec.output_size), ""
    except Untellable as error:
        _refuse("head", str(error))


def _of_stack(stack: Stack, options: Options) -> Iterator[str]:
    if len(stack.lstms) > 1 and not options.prefix:
        layers = f"one nn.LSTM of {stack.spec.num_layers} layers"
        paths = listed([lstm.path for lstm in stack.lstms])
        yield f"LSTM: {paths} are {layers}, as if only dropout stood between them (--prefix PATH for one alone)."
    if stack.lstms[0].kind == "nn.LSTMCell":
        yield "LSTM: an nn.LSTMCell is read as an nn.LSTM of one layer, stepped from the first time step to the last."


def _of_head(parts: Parts, options: Options) -> Iterator[str]:
    if parts.headless and options.head != (NONE,):
        yield f"No head: {parts.headless}. The LSTM alone is served (--head PATH if there is one)."
    if parts.head and not options.head:
        yield f"Head: {heads.shown(parts.head)}, the only one that fits the LSTM's output (--head PATH, or none)."
    if parts.head:
        yield "What has no weights, as a sigmoid at the end, cannot be seen in a checkpoint and is not computed."


def _named(option: str, paths: Sequence[str], found: Sequence[AnyPart], contents: Contents) -> list[AnyPart]:
    """The parts that stand at these paths or below them, in the order of the paths and of their numbers."""
    chosen: list[AnyPart] = []
    for path in paths:
        stem = path.removesuffix(".")
        below = [part for part in found if part.path == stem or part.path.startswith(f"{stem}.")]
        if not below:
            _refuse(option, _nothing_at(stem, found, contents))
        chosen += [part for part in sorted(below, key=number) if part not in chosen]
    return chosen


def _nothing_at(path: str, found: Sequence[Part], contents: Contents) -> str:
    there = next((part for part in contents.parts if part.path == path), None)
    reason = getattr(there, "reason", None) or (there and f"is {getattr(there, 'kind', '')}") or "is not in it"
    have = listed([part.path for part in found]) if found else "none"
    return f"'{path}' {reason}; the checkpoint has {have}"


def _no_lstm(contents: Contents) -> str:
    broken = next((part.reason for part in contents.others if part.reason), None)
    if broken is not None:
        return broken
    recurrent = next((part for part in contents.others if part.kind.startswith(("nn.GRU", "nn.RNN"))), None)
    if recurrent is not None:
        return f"there is no nn.LSTM in the checkpoint; {recurrent} is an {recurrent.kind}"
    return f"there is no nn.LSTM in the checkpoint; it has {listed([part.path for part in contents.parts])}"


def _sizes(lstms: Sequence[FoundLSTM]) -> str:
    return ", ".join(f"{lstm} ({lstm.spec.input_size} → {lstm.spec.output_size})" for lstm in lstms)


def _names(part: Part) -> list[str]:
    """The part's path; of what stands at the top, its weights' names."""
    return [part.path] if part.path or not isinstance(part, Other) else list(part.shapes)


def _name(part: Part, name: str) -> str:
    return f"{part.path}.{name}" if part.path else name


def _refuse(option: str, message: str) -> NoReturn:
    raise InvalidInput.at(Place((option,), message))
