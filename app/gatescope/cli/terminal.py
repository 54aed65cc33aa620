"""Replies for the eye: tables of predictions and small heatmaps of traces, drawn with rich."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

MOST_ROWS = 60
HEATMAP_ROWS = 16
_MODULES = ("lstms", "embeddings", "linear_layers", "others")
SIGNED = ("cell_candidate", "cell_state", "hidden_state")


def prediction(reply: Mapping[str, Any], info: Mapping[str, Any]) -> RenderableType:
    """A table per sequence of a predict reply; `info` is the model's ModelInfo."""
    if "prediction" not in reply:
        return _table("output", [f"unit {n}" for n in range(len(reply["output"][0][0]))], reply["output"][0])
    parts = [_one(reply, info, row) for row in range(len(reply["sequence_lengths"]))]
    return Group(*parts)


def trace(reply: Mapping[str, Any], console: Console) -> RenderableType:
    """Heatmaps of the first sequence of a trace reply: units down, time across."""
    width = max(10, console.width - 4)
    parts: list[RenderableType] = []
    for signal, values in reply["signals"].items():
        for layer, of_layer in zip(reply["layers"], values[0], strict=True):
            for direction, of_direction in zip(reply["directions"], of_layer, strict=True):
                picture = _heatmap(np.array(of_direction, dtype=float).T, signal, width)
                parts.append(Panel(picture, title=f"{signal}, layer {layer}, {direction}", title_align="left"))
    model = reply["model"]
    parts.append(
        Text(
            f"{model['name']} version {model['version']}: gates run dark to bright from 0 to 1, the others "
            f"blue to red around 0; residual {reply['residual']:.1e}"
        )
    )
    return Group(*parts)


def checkpoint(report: Mapping[str, Any]) -> RenderableType:
    """What `gatescope inspect` found: a table of the modules, and what an import would make of them."""
    table = Table("path", "what", "sizes", title=f"{report['parameters']:,} parameters", title_justify="left")
    rows = [_row(part) for kind in _MODULES for part in report[kind]]
    for row in rows[:MOST_ROWS]:
        table.add_row(*map(Text, row))
    if len(rows) > MOST_ROWS:
        table.caption = f"{len(rows) - MOST_ROWS} more; into a pipe all are written, as JSON"
    made = report["import"]
    says = made["notes"] if "notes" in made else [f"It cannot be imported as it is: {made['refused']}"]
    return Group(*(Text(note) for note in report["notes"]), table, Text("Imported as it is:"), *map(_bullet, says))


def _row(part: Mapping[str, Any]) -> tuple[str, str, str]:
    kind = part.get("kind") or ("nn.Embedding" if "num_embeddings" in part else "nn.Linear")
    sizes = {name: value for name, value in part.items() if name not in ("path", "kind", "shapes")}
    said = [f"{name}={value}" for name, value in (sizes | part.get("shapes", {})).items() if value]
    return part["path"] or "(top)", kind, ", ".join(said)


def _bullet(note: str) -> Text:
    return Text(f"- {note}")


def _one(reply: Mapping[str, Any], info: Mapping[str, Any], row: int) -> RenderableType:
    said = reply["prediction"]
    title = f"sequence {row}"
    if "text" in said:
        return Panel(Text(said["text"][row]), title=title, title_align="left")
    if "labels" not in said:
        values = said["values"][row]
        names = info["output"]["names"]
        return _table(title, names, values if isinstance(values[0], list) else [values])
    labels, probabilities = said["labels"][row], said["probabilities"][row]
    if isinstance(labels, str):
        labels, probabilities = [labels], [probabilities]
    tokens = reply.get("tokens", [[""] * len(labels)])[row]
    table = Table("step", "token", "label", "probability", title=title, title_justify="left")
    for step, (token, label, scores) in enumerate(zip(tokens, labels, probabilities, strict=False)):
        table.add_row(str(step), repr(token)[1:-1], repr(label)[1:-1], f"{max(scores):.3f}")
    return table


def _table(title: str, names: list[str], rows: list[list[float]]) -> Table:
    table = Table("step", *names, title=title, title_justify="left")
    for step, values in enumerate(rows[:MOST_ROWS]):
        table.add_row(str(step), *(f"{value:.6g}" for value in values))
    if len(rows) > MOST_ROWS:
        table.caption = f"{len(rows) - MOST_ROWS} more; into a pipe or a file all are written, as JSON"
    return table


def _heatmap(values: np.ndarray, signal: str, width: int) -> Text:
    """(unit, time), averaged down to what the terminal has room for."""
    shown = _binned(_binned(values, HEATMAP_ROWS).T, width).T
    scale = max(1.0, float(np.abs(shown).max())) if signal == "cell_state" else 1.0
    picture = Text()
    for row in shown:
        for value in row:
            picture.append(" ", Style(bgcolor=_colour(value / scale, signed=signal in SIGNED)))
        picture.append("\n")
    picture.rstrip()
    return picture


def _binned(values: np.ndarray, most: int) -> np.ndarray:
    if len(values) <= most:
        return values
    return np.stack([part.mean(axis=0) for part in np.array_split(values, most)])


def _colour(value: float, *, signed: bool) -> str:
    if not signed:
        level = round(20 + 235 * min(max(value, 0.0), 1.0))
        return f"#{level:02x}{level:02x}{level // 3:02x}"
    faded = round(255 * (1 - min(abs(value), 1.0)))
    return f"#ff{faded:02x}{faded:02x}" if value > 0 else f"#{faded:02x}{faded:02x}ff"
