"""The tables of the page, from the study's numbers alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from studies.page import spread, table


def tables(numbers: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name."""
    states: Mapping[str, Any] = numbers["states"]
    return {"units": _units(states), "lesions": _lesions(states)}


def _units(states: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            f"{each['characters']['in']:,} of {sum(each['characters'].values()):,}",
            f"{each['unit']['layer']}, {each['unit']['unit']}",
            f"{each['auc']:.3f}",
            f"{each['q']:.1g}",
            f"{each['auc_untrained']:.3f}",
            f"{each['auc_character']:.3f}",
        ]
        for name, each in states.items()
    ]
    header = ["state", "characters", "layer, unit", "AUC", "q", "control: untrained", "control: character alone"]
    return table(header, rows)


def _lesions(states: Mapping[str, Any]) -> str:
    rows = []
    for name, each in states.items():
        for said, one, others in (
            ("the unit", each["lesion"], each["lesions_random"]),
            ("its group of eight", each["group"], each["groups_random"]),
        ):
            rows.append(
                [
                    f"{name}: {said}",
                    *(f"{one[place]:+.3f}".replace("-", "−") for place in ("in", "out")),
                    spread([other["in"] for other in others], 3, "+"),
                    f"{100 * np.mean([other['in'] < one['in'] for other in others]):.0f}",
                    f"{100 * np.mean([_excess(other) < _excess(one) for other in others]):.0f}",
                ]
            )
    header = [
        "silenced",
        "bits in the state",
        "bits elsewhere",
        "random ones, in the state",
        "% of them below, in the state",
        "% of them below, in the state less elsewhere",
    ]
    return table(header, rows)


def _excess(each: Mapping[str, float]) -> float:
    return each["in"] - each["out"]
