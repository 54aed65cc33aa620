"""What every study's page is made of: tables from the study's numbers, and figures as small SVG files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

Tables = Callable[[Mapping[str, Any]], Mapping[str, str]]
"""Makes every table of a study, by its name, from its numbers."""

FINDINGS = Path(__file__).parents[1] / "docs" / "findings"
DARK, LIGHT, ACCENT = "#37474f", "#b0bec5", "#c62828"
_PRECISION = 4  # digits of a number in a JSON file
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "gatescope", "font.size": 9, "axes.spines.top": False}


def write(folder: Path, name: str, numbers: Mapping[str, Any], tables: Tables) -> None:
    """Write `name`.json, and the tables that are made of it into `name`.md if it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = _rounded(numbers)
    (folder / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    page = folder / f"{name}.md"
    if page.is_file():
        page.write_text(with_tables(page.read_text(encoding="utf-8"), tables(kept)), encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    """The numbers of a study that are kept."""
    numbers: dict[str, Any] = json.loads((FINDINGS / f"{name}.json").read_text(encoding="utf-8"))
    return numbers


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """The page with each table between `<!-- table: NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: the page lacks a table.
    """
    for name, table in tables.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = place.subn(lambda found, text=table: f"{found[1]}\n{text}\n\n{found[2]}", page)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the page has {count} places for the table '{name}'; it must have one")
    return page


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first column is words."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], digits: int = 2, sign: str = "") -> str:
    """The median of the seeds, and the least and the largest."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return "–"
    middle, least, most = (f"{each:{sign}.{digits}f}" for each in (np.median(known), min(known), max(known)))
    return f"{middle} ({least} … {most})".replace("-", "−")


def figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (7.2, 3.0)) -> tuple[Figure, Any]:
    """A figure and its axes, (row, column)."""
    with mpl.rc_context(_STYLE):
        made = Figure(figsize=size, layout="constrained")
        axes = made.subplots(rows, columns, squeeze=False)
    return made, axes


def save(made: Figure, folder: Path, name: str) -> None:
    """Write an SVG that is the same whenever the numbers are."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        made.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_rounded(each) for each in value]
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(f"{value:.{_PRECISION}g}")
    return value
