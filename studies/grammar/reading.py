"""Which unit marks a state, and what is lost where it is silenced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gatescope import Intervention, Trace, analyse, trace
from gatescope.interventions import trace_edited
from gatescope.selection import Selection
from models.shakespeare.train import CharacterModel, to_ids
from studies.grammar.states import Passage

Floats = npt.NDArray[np.float64]
IN, OUT = "in", "out"
Unit = tuple[int, int]  # layer, unit


@dataclass(frozen=True)
class Reader:
    """The model and the passages that it reads, all of one length."""

    model: CharacterModel
    passages: Sequence[Passage]

    @cached_property
    def ids(self) -> Tensor:
        """(time, passage)."""
        return torch.stack([to_ids(passage.text) for passage in self.passages], dim=1)

    @cached_property
    def inputs(self) -> Tensor:
        """(time, passage, feature) what the LSTM reads; nothing follows the last character."""
        with torch.no_grad():
            return self.model.embedding(self.ids[:-1])  # type: ignore[no-any-return]

    @cached_property
    def seen(self) -> Trace:
        """The cell states of the trained network."""
        return trace(self.model.lstm, self.inputs, selection=Selection(("cell_state",)))

    def untrained(self) -> Trace:
        """Those of a network of the same shape that was not trained."""
        torch.manual_seed(0)
        (vocabulary, embedding), lstm = self.model.embedding.weight.shape, self.model.lstm
        untrained = CharacterModel(vocabulary, embedding, lstm.hidden_size, lstm.num_layers).lstm
        return trace(untrained.eval(), self.inputs, selection=Selection(("cell_state",)))

    def bits(self, edits: Sequence[Intervention]) -> Floats:
        """(passage, time) bits that each next character takes."""
        output = trace_edited(self.model.lstm, self.inputs, edits, selection=Selection(signals=())).output
        with torch.no_grad():  # output: (passage, time, unit)
            nats = nn.functional.cross_entropy(
                self.model.head(output).transpose(1, 2), self.ids[1:].T, reduction="none"
            )
        return np.asarray(nats.double().numpy() / np.log(2))

    def silenced(self, units: Sequence[Unit]) -> Floats:
        """The same where the hidden states of some units are their means."""
        layers = sorted({layer for layer, _ in units})
        edits = [
            Intervention("hidden_state", layer, units=tuple(unit for at, unit in units if at == layer), mean=True)
            for layer in layers
        ]
        return self.bits(edits)

    def flags(self, name: str, half: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """(passage, time) the measured characters of one half of the passages: those in a state, and the others."""
        here = np.array([index % 2 == half for index in range(len(self.passages))])[:, None]
        measured = np.array([passage.measured for passage in self.passages]) & here
        state = np.array([passage.state(name) for passage in self.passages])
        return measured & state, measured & ~state


def areas(seen: Trace, reader: Reader, name: str, half: int) -> tuple[Floats, Floats]:
    """(layer, unit) AUC and q of the state, on one half of the passages."""
    inside, outside = reader.flags(name, half)
    classes = [
        [IN if yes else OUT if no else None for yes, no in zip(*rows, strict=True)]
        for rows in zip(inside, outside, strict=True)
    ]
    found = analyse(seen, "selectivity", classes=classes)
    place = list(found.coordinates["class"]).index(IN)
    return found["auc"][place, :, 0], found["q"][place, :, 0]


def area_of_characters(reader: Reader, name: str) -> float:
    """AUC of what the character alone tells: the rates of the first half, measured on the second."""
    (inside, outside), (test_inside, test_outside) = (reader.flags(name, half) for half in (0, 1))
    ids = reader.ids[:-1].T.numpy()
    counts = [Counter(ids[places].tolist()) for places in (inside, outside)]
    rate = np.array([counts[0][each] / max(1, counts[0][each] + counts[1][each]) for each in range(int(ids.max()) + 1)])
    return area(rate[ids[test_inside]], rate[ids[test_outside]])


def area(inside: Floats, outside: Floats) -> float:
    """The probability that a value inside is above one outside; half where they are equal."""
    both = np.sort(outside)
    below, equal = (np.searchsorted(both, inside, side) for side in ("left", "right"))
    return float((below + equal).mean() / 2 / len(outside))


def losses(changed: Floats, before: Floats, reader: Reader, name: str) -> Mapping[str, float]:
    """More bits for each character, in the state and outside of it, on the second half."""
    places = zip((IN, OUT), reader.flags(name, 1), strict=True)
    return {place: float((changed - before)[where].mean()) for place, where in places}
