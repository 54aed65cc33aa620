"""The numbers as they are kept beside the page, one file for each part of the experiment."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "claims.md"
NUMBERS = ROOT / "docs" / "claims"
IMAGES = ROOT / "docs" / "images"

Part = dict[str, Any]


class Spread(NamedTuple):
    """Of one number over the seeds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The median and the range."""
        every = list(values)
        return cls(statistics.median(every), min(every), max(every))


def write(part: Part, name: str, folder: Path = NUMBERS) -> None:
    """Keep the numbers of one part; each run stands on a line of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for key, value in part.items():
        rows = ",\n  ".join(json.dumps(row) for row in value) if isinstance(value, list) else None
        lines.append(f"{json.dumps(key)}: " + (json.dumps(value) if rows is None else f"[\n  {rows}\n]"))
    (folder / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read(name: str, folder: Path = NUMBERS) -> Part:
    """The numbers of one part; raises `FileNotFoundError` if it was never measured."""
    found: Part = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def of_network(part: Part, network: str) -> list[Any]:
    """Its runs, one for each seed."""
    return [run for run in part["runs"] if run["network"] == network]
