"""`Section`: one table of the report, written as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Value = str | int | float | bool | None
Row = dict[str, Value]


@dataclass(frozen=True)
class Section:
    """Rows with the same keys, and what is to be said about them."""

    name: str
    title: str
    rows: Sequence[Row]
    note: str
    skipped: Sequence[str] = field(default_factory=list)
    """Rows that were not measured, with the reason."""


def write(folder: Path, machine: Mapping[str, Value], sections: Sequence[Section]) -> None:
    """Write device.json and device.md into this folder."""
    told = {
        section.name: {"note": section.note, "rows": section.rows, "skipped": section.skipped} for section in sections
    }
    text = json.dumps({"machine": machine, **told}, indent=1)
    (folder / "device.json").write_text(text + "\n", encoding="utf-8")
    (folder / "device.md").write_text("\n".join(_markdown(machine, sections)) + "\n", encoding="utf-8")


def _markdown(machine: Mapping[str, Value], sections: Sequence[Section]) -> Iterator[str]:
    yield from ("# Device report", "")
    yield from _table([{"what": name, "value": value} for name, value in machine.items()])
    for section in sections:
        yield from ("", f"## {section.title}", "", section.note, "")
        yield from _table(section.rows)
        if section.skipped:
            yield from ("", "Skipped:", "", *(f"- {reason}" for reason in section.skipped))


def _table(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        yield "No rows."
        return
    names = list(rows[0])
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(_shown(row[name]) for name in names)} |"


def _shown(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
