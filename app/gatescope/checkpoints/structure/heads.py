"""The head: which linear layers read the LSTM's output, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.kinds import FoundLSTM, Linear, Other
from gatescope.checkpoints.structure.stack import Stack, number, series

MOST_LAYERS = 100


class Untellable(ValueError):
    """The head cannot be told, and why."""


def find(contents: Contents, stack: Stack) -> tuple[Linear, ...]:
    """The one chain of linear layers that begins at the LSTM's output.

    Raises:
        Untellable: there is none or there are several, or something else may stand between.
    """
    lstm, width = stack.lstms[-1], stack.spec.output_size
    layers = [layer for layer in contents.linear_layers if contents.may_follow(layer, lstm)]
    if len(layers) > MOST_LAYERS:
        raise Untellable(f"there are {len(layers)} linear layers")
    chains = list(islice(_chains((), layers, width), 2))
    if not chains:
        raise Untellable(f"no linear layer behind the LSTM takes the {width} values of its output")
    if len(chains) > 1:
        raise Untellable(f"{shown(chains[0])} could be it, and so could {shown(chains[1])}")
    if between := [part for part in unserved(contents, stack) if contents.may_follow(part, lstm)]:
        raise Untellable(f"{between[0]} ({between[0].kind}) may stand between the LSTM and {shown(chains[0])}")
    left = [layer for layer in layers if layer not in chains[0] and not _may_feed(layer, lstm, contents)]
    if left:
        raise Untellable(f"{shown(chains[0])} could be it, but then {shown(left[:1])} has no place")
    return chains[0]


def unserved(contents: Contents, stack: Stack) -> list[FoundLSTM | Other]:
    """What neither an embedding, nor a head, nor the LSTM itself is made of."""
    found: list[FoundLSTM | Other] = [*contents.lstms, *contents.obstacles]
    return [part for part in found if part not in stack.lstms]


def chained(layers: Sequence[Linear], width: int) -> tuple[Linear, ...]:
    """These layers, which must fit each other and take this many values.

    Raises:
        Untellable: they do not; both sizes are given.
    """
    for layer in layers:
        if layer.in_features != width:
            raise Untellable(f"{layer} takes {layer.in_features} values, but what comes before it gives {width}")
        width = layer.out_features
    return tuple(layers)


def shown(layers: Sequence[Linear]) -> str:
    """Layers with their sizes, for people."""
    return " → ".join(f"{layer} ({layer.in_features} → {layer.out_features})" for layer in layers)


def _chains(begun: tuple[Linear, ...], layers: Sequence[Linear], width: int) -> Iterator[tuple[Linear, ...]]:
    """Every chain that cannot go on; layers that are numbered alike are taken in their order."""
    left = [layer for layer in layers if layer not in begun]
    following = [layer for layer in left if layer.in_features == width and _is_next(layer, left)]
    for layer in following:
        yield from _chains((*begun, layer), layers, layer.out_features)
    if begun and not following:
        yield begun


def _is_next(layer: Linear, left: Sequence[Linear]) -> bool:
    return layer == min((other for other in left if series(other.path) == series(layer.path)), key=number)


def _may_feed(layer: Linear, lstm: FoundLSTM, contents: Contents) -> bool:
    """Whether a layer may stand in front of the LSTM."""
    return contents.may_precede(layer, lstm) and layer.out_features == lstm.spec.input_size
