"""The plots of `docs/claims.md`; line styles and marks tell the networks apart without colour."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.claims.networks import KINDS
from studies.claims.results import IMAGES, NUMBERS, Part, Spread, of_network, read
from studies.claims.tasks import TASKS, Task

LEAST_NORM = 1e-6
"""Of the axis of norms; smaller ones are drawn there."""

mpl.rcParams |= {"svg.hashsalt": "claims", "svg.fonttype": "none", "font.size": 8, "axes.spines.right": False}
mpl.rcParams |= {"axes.spines.top": False, "lines.markersize": 3.5, "lines.linewidth": 1.1}


class Style(NamedTuple):
    """Of one network's line."""

    colour: str
    line: str
    mark: str


STYLES = {
    "rnn": Style("#d95f02", ":", "o"),
    "rnn_wide": Style("#e6ab02", ":", "s"),
    "rnn_orthogonal": Style("#a6761d", "--", "^"),
    "gru": Style("#666666", "-.", "v"),
    "lstm": Style("#1f78b4", "-", "D"),
    "lstm_open": Style("#08306b", "-", "x"),
}


def draw(folder: Path = NUMBERS, images: Path = IMAGES) -> None:
    """Draw every plot anew."""
    parts = {name: read(name, folder) for name in TASKS}
    _save(_gradients(parts), images / "claims-gradients.svg")
    _save(_learnt(parts), images / "claims-learnt.svg")
    _save(_cost(read("cost", folder)), images / "claims-cost.svg")


def _gradients(parts: dict[str, Part]) -> Figure:
    """Norms by distance: a column a task, before training above and after it below."""
    figure, grid = _grid(rows=2, columns=len(parts), height=5.4)
    for column, (name, part) in enumerate(parts.items()):
        for row, when in enumerate(("initial", "trained")):
            axes = grid[row][column]
            for kind in KINDS:
                _line(axes, kind, part["setup"]["distances"], _norms(part, kind, when))
            axes.set(yscale="log", ylim=(LEAST_NORM, 10), title=f"{TASKS[name].title}, {when}")
            axes.set(xlabel="time steps back" if row else "", ylabel="" if column else "norm of the gradient")
    return _with_legend(figure, grid)


def _norms(part: Part, kind: str, when: str) -> list[Spread]:
    """Over the seeds, of the state that carries: an LSTM's cell state, relative to its own at the last step."""
    rows = []
    for run in of_network(part, kind):
        norms = list(run[when]["gradient"].values())[-1]
        rows.append([max(norm / norms[0], LEAST_NORM) for norm in norms])
    return [Spread.of(column) for column in zip(*rows, strict=True)]


def _learnt(parts: dict[str, Part]) -> Figure:
    """Scores by length."""
    figure, grid = _grid(rows=1, columns=len(parts), height=3.2)
    for axes, (name, part) in zip(grid[0], parts.items(), strict=True):
        lengths = part["setup"]["test_lengths"]
        for kind in KINDS:
            runs = of_network(part, kind)
            _line(axes, kind, lengths, [Spread.of(run["score"][str(length)] for run in runs) for length in lengths])
        _finish_learnt(axes, TASKS[name], lengths, part["setup"]["longest"])
    return _with_legend(figure, grid)


def _finish_learnt(axes: Axes, task: Task, lengths: Sequence[int], longest: int) -> None:
    axes.axhline(task.naive, color="0.6", linewidth=0.8)
    axes.axvline(longest, color="0.6", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", title=task.title, xlabel="length of the test sequences", ylabel=task.measure)
    axes.set_xticks(lengths, [str(length) for length in lengths], minor=False)
    axes.set_xticks([], minor=True)
    if task.is_regression:
        axes.set_yscale("log")


def _cost(part: Part) -> Figure:
    """Ratios to the plain network: a column for what is equal, a row for each network with gates."""
    equals, names = ("units", "parameters"), ("gru", "lstm")
    figure, grid = _grid(rows=len(names), columns=len(equals), height=5.0)
    for row, name in enumerate(names):
        for column, equal in enumerate(equals):
            axes, runs = grid[row][column], [run for run in part["runs"] if run["equal"] == equal]
            _ratios(axes, runs, name)
            axes.set(title=f"{KINDS[name].title}, equal {equal}")
            axes.set(xlabel="units × batch × steps" if row else "", ylabel="" if column else "CPU time / the RNN's")
    return _with_legend(figure, grid)


def _ratios(axes: Axes, runs: list[Any], name: str) -> None:
    """Of one network: a mark for each way, the median and the middle half of the rounds."""
    shapes = list(dict.fromkeys((run["units"], run["batch"], run["time"]) for run in runs))
    ways = list(dict.fromkeys(run["way"] for run in runs))
    for index, (way, (colour, _, mark)) in enumerate(zip(ways, STYLES.values(), strict=False)):
        least, medians, most = zip(*(run["ratio"][name] for run in runs if run["way"] == way), strict=True)
        errors = [
            [median - low for median, low in zip(medians, least, strict=True)],
            [high - median for high, median in zip(most, medians, strict=True)],
        ]
        places = [place + (index - (len(ways) - 1) / 2) * 0.13 for place in range(len(shapes))]
        axes.errorbar(places, medians, errors, fmt=mark, color=colour, elinewidth=0.8, label=way)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(shapes)), ["{} × {}\n× {}".format(*shape) for shape in shapes])
    ticks = (0.25, 0.5, 1, 2, 4)
    axes.set(yscale="log", ylim=(0.15, 5))
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)


def _line(axes: Axes, kind: str, places: Sequence[float], spreads: list[Spread]) -> None:
    """The medians as a line, the range as a band."""
    style = STYLES[kind]
    axes.fill_between(
        places, [each.least for each in spreads], [each.most for each in spreads], color=style.colour, alpha=0.12, lw=0
    )
    axes.plot(
        places,
        [each.median for each in spreads],
        color=style.colour,
        linestyle=style.line,
        marker=style.mark,
        label=KINDS[kind].title,
    )


def _grid(rows: int, columns: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=(9, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def _with_legend(figure: Figure, grid: list[list[Axes]]) -> Figure:
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    return figure


def _save(figure: Figure, path: Path) -> None:
    """A small file; without the date, so that the same numbers give the same one."""
    for axes in figure.axes:
        axes.minorticks_off()  # of logarithmic axes: they are most of the file
    figure.savefig(path, metadata={"Date": None})
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", path.read_text(encoding="utf-8"))  # a hundredth of a point is enough
    path.write_text("".join(f"{line.rstrip()}\n" for line in text.splitlines()), encoding="utf-8")
