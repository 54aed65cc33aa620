"""The figure of the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studies.counting.tables import SAID
from studies.page import ACCENT, DARK, figure, save

COLOURS = {"lstm": ACCENT, "gru": DARK}


def right(numbers: Mapping[str, Any], folder: Path) -> None:
    """The share of right strings by how far they count, a line a seed."""
    drawn, (axes,) = figure(1, len(SAID), (7.2, 2.6))
    for axis, (language, said) in zip(axes, SAID.items(), strict=True):
        for cell, colour in COLOURS.items():
            for index, each in enumerate(numbers["networks"][language][cell]):
                values = [100 * value for value in each["right"].values()]
                label = cell.upper() if index == 0 else None
                axis.plot(range(len(values)), values, "o-", color=colour, markersize=3, linewidth=0.8, label=label)
        axis.set_xticks(range(len(each["right"])), list(each["right"]))
        axis.set_title(said, fontsize=9)
        axis.set_xlabel("counts to")
    axes[0].set_ylabel("strings right at every step, %")
    axes[0].legend(frameon=False, fontsize=8)
    save(drawn, folder, "counting-right")
