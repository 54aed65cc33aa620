"""Replies for the eye: tables of predictions and small heatmaps of traces, drawn with rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

from gatescope.signal_info import SignalInfo, signals_of

MOST_ROWS = 60
HEATMAP_ROWS = 16
FRAME = 3  # characters: what a column takes beside its text
_MODULES = ("lstms", "embeddings", "linear_layers", "others")
CELL = "█"
"""One value of a heatmap. A coloured space would not do: rich takes spaces away from the end of a line."""


def prediction(reply: Mapping[str, Any], info: Mapping[str, Any], width: int) -> RenderableType:
    """Tables for each sequence of a predict reply.

    Args:
        reply: the predict reply.
        info: the model's ModelInfo.
        width: of the terminal, in characters; a table with more columns is folded into several.
    """
    if "prediction" not in reply:
        rows = reply["output"][0]
        table = _tables("output", [f"unit {unit}" for unit in range(len(rows[0]))], rows, width)
        return Group(table, *_notes(reply))
    heads = {None: reply["prediction"]} | reply.get("heads", {})
    parts = [
        _one(said, name, reply, info, row, width)
        for row in range(len(reply["sequence_lengths"]))
        for name, said in heads.items()
    ]
    return Group(*parts, *_notes(reply))


def trace(reply: Mapping[str, Any], info: Mapping[str, Any], width: int) -> RenderableType:
    """Heatmaps of the first sequence of a trace reply: units down, time across; a signal has one colour scale.

    Args:
        reply: the trace reply.
        info: the model's ModelInfo.
        width: of the terminal, in characters.
    """
    known = signals_of(info, reply.get("module"))
    parts: list[RenderableType] = []
    for name in reply["signals"]:
        signal = known.get(name, SignalInfo(name))
        values = np.array(reply["signals"][name][0], dtype=float)  # layer, direction, time, unit
        limits = signal.limits(values)
        for layer, of_layer in zip(reply["layers"], values, strict=True):
            for direction, of_direction in zip(reply["directions"], of_layer, strict=True):
                picture = _heatmap(of_direction.T, limits, signal, max(10, width - 4))
                title = f"{name}, layer {layer}, {direction}"
                parts.append(Panel(picture, title=title, title_align="left", subtitle=_scale(signal, limits)))
    model = reply["model"]
    parts.append(Text(f"{model['name']} version {model['version']}, residual {reply['residual']:.1e}"))
    return Group(*parts, *_notes(reply))


def backtest(summary: Mapping[str, Any]) -> RenderableType:
    """What `gatescope backtest` found: a row a measure, a column the model and each naive forecast."""
    of_each = {"model": summary["model"], **summary["baselines"]}
    title = f"{summary['target']}: {summary['pairs']} predictions from {summary['origins']} origins"
    if summary["quantiles"]:
        of_point = "mae to kge are of the median" if summary["point"] else "there is no median, so no mae to kge"
        title += f"; {of_point}"
    columns = [Column(name, overflow="fold") for name in ("", *of_each)]
    table = Table(*columns, title=title, title_justify="left")
    for measure in summary["model"]:
        cells = [measures[measure] for measures in of_each.values()]
        table.add_row(measure, *("" if cell is None else f"{cell:.4g}" for cell in cells))
    return table


def analysis(reply: Mapping[str, Any], width: int) -> RenderableType:
    """A table for all arrays with the same axes, the largest values of the first of them on top, and the check.

    Args:
        reply: of an analysis.
        width: of the terminal, in characters.
    """
    by_axes: dict[tuple[str, ...], list[str]] = {}
    for name, each in reply["arrays"].items():
        by_axes.setdefault(tuple(each["axes"]), []).append(name)
    parts: list[RenderableType] = [_arrays(reply, axes, names, width) for axes, names in by_axes.items()]
    if reply["check"] is not None:
        parts.append(Text(f"{reply['check']['kind']}: {reply['check']['value']:.4g}"))
    return Group(*parts, *_notes(reply))


def intervention(reply: Mapping[str, Any], info: Mapping[str, Any], width: int) -> RenderableType:
    """A table of the predictions that changed, the largest changes on top; of the output where nothing is predicted.

    Args:
        reply: of an intervention.
        info: the ModelInfo.
        width: of the terminal, in characters.
    """
    is_predicted = "prediction" in reply["difference"]
    runs = [reply[name] for name in ("baseline", "intervened", "difference")]
    values = [run["prediction"]["values"] if is_predicted else run["output"] for run in runs]
    rows = list(zip(*map(_places, values), strict=True))
    rows.sort(key=lambda row: -np.nan_to_num(abs(row[2][1])))
    count, said = 1 + max(row[0][0][-1] for row in rows), info["output"]
    names = [f"unit {unit}" for unit in range(count)]
    if is_predicted:
        names = _value_names(info, None) if said.get("names") else said["labels"][-count:]  # binary: the positive one
    has_steps = len(rows[0][0][0]) > 2  # noqa: PLR2004 - (sequence, step, value)
    where = ("sequence", "step", "value") if has_steps else ("sequence", "value")
    title = f"{'prediction' if is_predicted else 'output'} of {info['name']}"
    table = Table(*where, "baseline", "intervened", "difference", title=title, width=min(width, 100))
    for row in rows[:MOST_ROWS]:
        *place, value = row[0][0]
        table.add_row(*map(str, place), names[value], *(f"{number:.4g}" for _, number in row))
    left = len(rows) - MOST_ROWS
    return Group(table, *([Text(f"and {left:,} more rows")] if left > 0 else []), *_notes(reply))


def _places(values: Any, *within: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Each number of nested lists with its place; null is NaN."""
    if isinstance(values, list):
        for index, each in enumerate(values):
            yield from _places(each, *within, index)
    else:
        yield within, float("nan") if values is None else values


def _arrays(reply: Mapping[str, Any], axes: tuple[str, ...], names: list[str], width: int) -> RenderableType:
    arrays = [np.array(reply["arrays"][name]["values"], dtype=float) for name in names]
    order = np.argsort(-np.abs(np.nan_to_num(arrays[0])), axis=None, kind="stable")
    places = [np.unravel_index(place, arrays[0].shape) for place in order[:MOST_ROWS]]
    table = Table(*axes, *names, title=f"{reply['analysis']} of {reply['model']['name']}", width=min(width, 100))
    for place in places:
        coordinates = (str(reply["coordinates"][axis][at]) for axis, at in zip(axes, place, strict=True))
        table.add_row(*coordinates, *(f"{values[place]:.4g}" for values in arrays))
    left = len(order) - len(places)
    return Group(table, Text(f"and {left:,} more rows")) if left else table


def checkpoint(report: Mapping[str, Any]) -> RenderableType:
    """What `gatescope inspect` found: a table of the modules, and what an import would make of them."""
    columns = [Column(name, overflow="fold") for name in ("path", "what", "sizes")]
    table = Table(*columns, title=f"{report['parameters']:,} parameters", title_justify="left")
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


def _notes(reply: Mapping[str, Any]) -> list[Text]:
    """What was assumed; that the predictions are not verified is said elsewhere."""
    return [Text(f"note: {note['message']}") for note in reply.get("notes", ()) if note["code"] != "unverified"]


def _one(
    said: Mapping[str, Any], head: str | None, reply: Mapping[str, Any], info: Mapping[str, Any], row: int, width: int
) -> RenderableType:
    """What a head says of one sequence; None is the first one."""
    title = f"sequence {row}" if head is None else f"sequence {row}, {head}"
    if "text" in said:
        samples = said["samples"][row] if "samples" in said else [{"text": said["text"][row]}]
        titles = [title] if len(samples) == 1 else [f"{title}, sample {index}" for index in range(len(samples))]
        return Group(*map(_written, titles, samples))
    values = said["values"][row]
    is_per_step = isinstance(values[0], list)
    if "labels" not in said:
        return _tables(title, _value_names(info, head), values if is_per_step else [values], width)
    labels = said["labels"][row] if is_per_step else [said["labels"][row]]
    probabilities = said["probabilities"][row] if "probabilities" in said else [None] * len(labels)
    if not is_per_step and "probabilities" in said:
        probabilities = [probabilities]
    tokens = reply["tokens"][row] if "tokens" in reply else [""] * len(labels)
    columns = [Column(name, overflow="fold") for name in ("step", "token", "label", "probability")]
    table = Table(*columns, title=title, title_justify="left")
    for step, (token, label, scores) in enumerate(zip(tokens, labels, probabilities, strict=False)):
        table.add_row(str(step), repr(token)[1:-1], *_labelled(label, scores, info, head))
    return table


def _written(title: str, sample: Mapping[str, Any]) -> Panel:
    """A text that the model wrote."""
    return Panel(Text(sample["text"]), title=title, title_align="left")


def _labelled(
    label: str | list[str], scores: list[float] | None, info: Mapping[str, Any], head: str | None
) -> list[str]:
    """A label, or several, and their probabilities; a path through labels has none."""
    several = [label] if isinstance(label, str) else label
    shown = ", ".join(repr(each)[1:-1] for each in several)
    if scores is None:
        return [shown, ""]
    if isinstance(label, str):
        return [shown, f"{max(scores):.3f}"]
    names = _head_info(info, head).get("labels") or []
    return [shown, ", ".join(f"{scores[names.index(each)]:.3f}" for each in several)]


def _value_names(info: Mapping[str, Any], head: str | None) -> list[str]:
    """What the values of a regression are called; of quantiles each name several times."""
    told = _head_info(info, head)
    quantiles = told.get("quantiles")
    return told["names"] if not quantiles else [f"{name} {each:g}" for name in told["names"] for each in quantiles]


def _head_info(info: Mapping[str, Any], head: str | None) -> Mapping[str, Any]:
    """What ModelInfo says of a head, None of the first."""
    output: Mapping[str, Any] = info["output"]
    return output if head is None else next(each for each in output["heads"] if each["name"] == head)


def _tables(title: str, names: list[str], rows: list[list[float]], width: int) -> RenderableType:
    """The rows as one table, or where it would be too wide, as several with some of the columns each."""
    shown = [[f"{value:.6g}" for value in values] for values in rows[:MOST_ROWS]]
    widths = [max(map(cell_len, column)) + FRAME for column in zip(names, *shown, strict=True)]
    tables: list[RenderableType] = []
    first = 0
    while first < len(names):
        room = width - len("step") - FRAME - 1
        last = first + 1
        while last < len(names) and sum(widths[first : last + 1]) <= room:
            last += 1
        table = Table("step", *names[first:last], title=title if first == 0 else None, title_justify="left")
        for step, values in enumerate(shown):
            table.add_row(str(step), *values[first:last])
        if len(rows) > MOST_ROWS and last == len(names):
            table.caption = f"{len(rows) - MOST_ROWS} more; into a pipe or a file all are written, as JSON"
        tables.append(table)
        first = last
    return Group(*tables)


def _heatmap(values: np.ndarray, limits: tuple[float, float], signal: SignalInfo, width: int) -> Text:
    """(unit, time), averaged down to what the terminal has room for."""
    shown = _binned(_binned(values, HEATMAP_ROWS).T, width).T
    low, high = limits
    lines = [Text.assemble(*((CELL, _colour((value - low) / (high - low), signal)) for value in row)) for row in shown]
    return Text("\n", no_wrap=True).join(lines)


def _scale(signal: SignalInfo, limits: tuple[float, float]) -> Text:
    low, high = limits
    return Text(f"dark {low:g} to bright {high:g}" if signal.is_sequential else f"blue {low:.3g} to red {high:.3g}")


def _binned(values: np.ndarray, most: int) -> np.ndarray:
    if len(values) <= most:
        return values
    return np.stack([part.mean(axis=0) for part in np.array_split(values, most)])


def _colour(share: float, signal: SignalInfo) -> Style:
    """Of a value at this share of the scale, 0…1."""
    share = min(max(share, 0.0), 1.0)
    if signal.is_sequential:
        level = round(20 + 235 * share)
        return Style(color=f"#{level:02x}{level:02x}{level // 3:02x}")
    faded = round(255 * (1 - abs(2 * share - 1)))
    return Style(color=f"#ff{faded:02x}{faded:02x}" if share > 0.5 else f"#{faded:02x}{faded:02x}ff")  # noqa: PLR2004
