"""The tables of the page, from the study's numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from studies.page import spread, table

SAID = {"counted": "aⁿbⁿ", "brackets": "brackets"}
Seeds = Sequence[Mapping[str, Any]]


def tables(numbers: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name."""
    groups = {
        f"{SAID[language]}, {cell.upper()}": numbers["networks"][language][cell]
        for language in SAID
        for cell in ("lstm", "gru")
    }
    return {"right": _right(groups), "units": _units(groups), "clamping": _clamping(groups)}


def _right(groups: Mapping[str, Seeds]) -> str:
    ranges = list(next(iter(groups.values()))[0]["right"])
    rows = [
        [
            name,
            *(spread([100 * each["right"][range_] for each in seeds], 0) for range_ in ranges),
            spread([each["furthest"] for each in seeds], 0),
        ]
        for name, seeds in groups.items()
    ]
    return table(
        ["trained on", *(f"counts to {each}, % right" for each in ranges), "aⁿbⁿ without a mistake up to n ="], rows
    )


def _units(groups: Mapping[str, Seeds]) -> str:
    keys = {
        "r": "trained range",
        "r_beyond": "the same unit, counts to 11–15",
        "r_untrained": "control: best unit before training",
    }
    rows = [[name, *(spread([abs(each[key]) for each in seeds]) for key in keys)] for name, seeds in groups.items()]
    return table(["absolute r of the best unit with the count", *keys.values()], rows)


def _clamping(groups: Mapping[str, Seeds]) -> str:
    columns: dict[str, Callable[[Mapping[str, Any]], float]] = {
        "counter leaks, % right": lambda each: 100 * each["leaking"],
        "another unit leaks, % right": lambda each: 100 * float(np.mean(each["leaking_others"])),
        "end moves per count, counter shifted": lambda each: _number(each["moved"]),
        "another unit shifted": lambda each: float(np.mean([_number(one) for one in each["moved_others"]])),
    }
    rows = [
        [
            name,
            *(
                spread([value(each) for each in seeds], 2 if "moves" in said or "shifted" in said else 0)
                for said, value in columns.items()
            ),
        ]
        for name, seeds in groups.items()
    ]
    return table(["trained on", *columns], rows)


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
