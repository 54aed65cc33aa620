"""The numbers of the study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from studies.grammar.reading import IN, OUT, Reader, Unit, area_of_characters, areas, losses
from studies.grammar.states import STATES

GROUP = 8
"""Units of a layer that are silenced together."""

_SEED = 0


def measured(reader: Reader, others: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Of every state: its unit, found on one half of the passages and measured on the other, and its lesions.

    Args:
        reader: the model and its passages.
        others: random units, and random groups of units, of each layer that are silenced beside it.
        report: is told of each state that is done.
    """
    before, untrained = reader.silenced([]), reader.untrained()
    found = {name: areas(reader.seen, reader, name, 0)[0] for name in STATES}
    layers, units = next(iter(found.values())).shape
    generator = np.random.default_rng(_SEED)
    lone: dict[int, list[Any]] = {
        layer: [reader.silenced([(layer, int(unit))]) for unit in generator.permutation(units)[:others]]
        for layer in range(layers)
    }
    grouped: dict[int, list[Any]] = {
        layer: [reader.silenced(_units(layer, generator.permutation(units)[:GROUP])) for _ in range(others)]
        for layer in range(layers)
    }
    numbers = {}
    for name, searched in found.items():
        layer, unit = (int(each) for each in np.unravel_index(np.abs(searched - 0.5).argmax(), searched.shape))
        group = np.argsort(-np.abs(searched[layer] - 0.5))[:GROUP]
        auc, q = areas(reader.seen, reader, name, 1)
        before_training = areas(untrained, reader, name, 0)[0]
        best = np.unravel_index(np.abs(before_training - 0.5).argmax(), before_training.shape)
        inside, outside = (int(flags.sum()) for flags in reader.flags(name, 1))
        numbers[name] = {
            "characters": {IN: inside, OUT: outside},
            "unit": {"layer": layer, "unit": unit, "auc_searched": float(searched[layer, unit])},
            "auc": _sided(float(auc[layer, unit]), searched[layer, unit]),
            "q": float(q[layer, unit]),
            "auc_untrained": _sided(float(areas(untrained, reader, name, 1)[0][best]), before_training[best]),
            "auc_character": area_of_characters(reader, name),
            "lesion": losses(reader.silenced([(layer, unit)]), before, reader, name),
            "lesions_random": [losses(each, before, reader, name) for each in lone[layer]],
            "group": losses(reader.silenced(_units(layer, group)), before, reader, name),
            "groups_random": [losses(each, before, reader, name) for each in grouped[layer]],
        }
        report(f"{name}: layer {layer}, unit {unit}, AUC {numbers[name]['auc']:.3f}")
    return {"states": numbers}


def _units(layer: int, units: Any) -> list[Unit]:
    return [(layer, int(unit)) for unit in units]


def _sided(auc: float, searched: float) -> float:
    """AUC in the direction that was found: below 0.5 if it was lost."""
    return auc if searched >= 0.5 else 1 - auc
