"""`Contents`: what a checkpoint's flat weights hold: LSTMs, embeddings, linear layers, and what is none of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from gatescope.checkpoints.structure.kinds import OF_A_LOSS, Embedding, FoundRecurrent, Linear, Other, Part, recognise


@dataclass(frozen=True)
class Contents:
    """The modules in a checkpoint, in the order of the file."""

    parts: tuple[Part, ...]
    ordered: bool
    """Whether the file keeps the order in which the modules were made; safetensors files are sorted by name."""

    @property
    def lstms(self) -> list[FoundRecurrent]:
        """Every LSTM that is whole."""
        return [part for part in self.parts if isinstance(part, FoundRecurrent)]

    @property
    def embeddings(self) -> list[Embedding]:
        """Every embedding."""
        return [part for part in self.parts if isinstance(part, Embedding)]

    @property
    def linear_layers(self) -> list[Linear]:
        """Every linear layer."""
        return [part for part in self.parts if isinstance(part, Linear)]

    @property
    def others(self) -> list[Other]:
        """Everything that the service has no place for, broken LSTMs included."""
        return [part for part in self.parts if isinstance(part, Other)]

    @property
    def obstacles(self) -> list[Other]:
        """What may stand between the others: all but what belongs to a loss."""
        return [part for part in self.others if part.kind != OF_A_LOSS]

    def may_precede(self, part: Part, lstm: FoundRecurrent) -> bool:
        """Whether a part may stand between the input and the LSTM, going by the order of the file."""
        return not self.ordered or self.parts.index(part) < self.parts.index(lstm)

    def may_follow(self, part: Part, lstm: FoundRecurrent) -> bool:
        """Whether a part may stand behind the LSTM, going by the order of the file."""
        return not self.ordered or self.parts.index(part) > self.parts.index(lstm)

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> Contents:
        """Recognise every module by the names and shapes of its weights."""
        modules = _modules(weights)
        parts = [part for path, own in modules.items() for part in recognise(path, own)]
        ordered = _keeps_order(weights, modules, parts)
        return cls(tuple(_with_tables(parts, ordered=ordered)), ordered)


def _modules(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Path of a module -> its own weights."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        path, _, own = name.rpartition(".")
        modules.setdefault(path, {})[own] = value
    return modules


def _keeps_order(weights: Mapping[str, Tensor], modules: Mapping[str, object], parts: list[Part]) -> bool:
    """Whether each module's weights stand together, and each LSTM's in PyTorch's order, which is not that of names."""
    names = list(weights)
    paths = [name.rpartition(".")[0] for name in names]
    changes = sum(before != after for before, after in pairwise(paths))
    if changes >= len(modules):
        return False
    place = {name: index for index, name in enumerate(names)}
    for part in parts:
        if isinstance(part, FoundRecurrent):
            places = [place[name] for name in part.names.values()]
            if places != sorted(places):
                return False
    return True


def _with_tables(parts: list[Part], *, ordered: bool) -> Iterator[Part]:
    """The same parts, with what can only be an embedding told from a linear layer without bias.

    In front of an LSTM a linear layer gives as many values as the LSTM takes; an embedding's rows are that wide.
    """
    lstm = next((part for part in parts if isinstance(part, FoundRecurrent)), None)
    ahead = ordered and lstm is not None
    for part in parts:
        ahead = ahead and part is not lstm
        if ahead and lstm is not None and isinstance(part, Linear) and _is_table(part, lstm.spec.input_size):
            yield Embedding(part.path, part.out_features, part.in_features)
        else:
            yield part


def _is_table(part: Linear, width: int) -> bool:
    return not part.bias and part.in_features == width != part.out_features
