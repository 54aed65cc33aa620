"""The figure of the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studies.page import ACCENT, DARK, LIGHT, figure, save


def lesions(states: Mapping[str, Any], folder: Path) -> None:
    """What is lost in a state and elsewhere where units are silenced: the chosen ones beside random ones."""
    drawn, (axes,) = figure(1, len(states), (7.2, 2.7))
    for axis, (name, each) in zip(axes, states.items(), strict=True):
        for marker, one, others in (
            ("o", each["lesion"], each["lesions_random"]),
            ("s", each["group"], each["groups_random"]),
        ):
            said = "one unit" if marker == "o" else "eight units"
            axis.plot(
                [other["out"] for other in others], [other["in"] for other in others], marker, color=LIGHT, markersize=3
            )
            axis.plot(one["out"], one["in"], marker, color=ACCENT, markersize=6, label=said)
        largest = max(axis.get_xlim()[1], axis.get_ylim()[1])
        axis.plot([0, largest], [0, largest], color=DARK, linewidth=0.5)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("more bits elsewhere")
    axes[0].set_ylabel("more bits in the state")
    axes[0].legend(frameon=False, fontsize=8)
    save(drawn, folder, "grammar-lesions")
