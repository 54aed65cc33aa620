"""A picture of a trace: every signal as a heatmap of units over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.signal_info import SignalInfo, signals_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MOST_TICKS = 60


def save(reply: Mapping[str, Any], info: Mapping[str, Any], path: Path, sequence: int = 0) -> None:
    """Write what `draw` draws of a trace reply.

    Args:
        reply: the trace reply.
        info: the model's ModelInfo.
        path: a .png, .svg or .pdf file.
        sequence: which one of the batch.
    """
    model = reply["model"]
    title = f"{model['name']} (version {model['version']}), residual {reply['residual']:.1e}"
    draw(reply, info, title, sequence).savefig(path)


def draw(reply: Mapping[str, Any], info: Mapping[str, Any], title: str, sequence: int = 0) -> Figure:
    """Draw one sequence of a trace: a row per signal, a column per layer and direction.

    Each row has one colour scale: sequential where the signal's range says so, else diverging around 0. A signal
    without a range, or one that `info` does not describe, is scaled by its largest absolute value.

    Args:
        reply: a JSON trace reply, or what of one is drawn: `layers`, `directions`, `units`, `time_steps`,
            `sequence_lengths`, `signals`, and `tokens` if there are any. The signals may be arrays.
        info: the model's ModelInfo.
        title: what stands above.
        sequence: which one of the batch.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("a plot needs matplotlib: pip install 'gatescope[plot]'", name="matplotlib")
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, wanted for this alone

    columns = [
        (layer, direction) for layer in range(len(reply["layers"])) for direction in range(len(reply["directions"]))
    ]
    known = signals_of(info, reply.get("module"))
    signals = [known.get(name, SignalInfo(name)) for name in reply["signals"]]
    size = (1.5 + 5.5 * len(columns), 0.8 + 1.7 * len(signals))
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    grid = figure.subplots(len(signals), len(columns), squeeze=False, sharex=True)
    for row, signal in enumerate(signals):
        # layer, direction, time, unit
        values = np.array(reply["signals"][signal.name][sequence], dtype=float)
        limits = signal.limits(values)
        for column, (layer, direction) in enumerate(columns):
            axes = grid[row][column]
            image = _heatmap(axes, values[layer][direction].T, limits, "cividis" if signal.is_sequential else "RdBu_r")
            if row == 0:
                axes.set_title(f"layer {reply['layers'][layer]}, {reply['directions'][direction]}", fontsize=10)
            _label_indices(axes.yaxis, _units_of(reply["units"], values.shape[-1]))
            if column == 0:
                axes.set_ylabel(f"{signal.name}\nunit", fontsize=9)
        figure.colorbar(image, ax=list(grid[row]), pad=0.01)
    for axes in grid[-1]:
        _label_time(axes, reply, sequence)
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def _heatmap(axes: Axes, values: np.ndarray, limits: tuple[float, float], colours: str) -> Any:
    """Draw (unit, time)."""
    low, high = limits
    return axes.imshow(values, aspect="auto", interpolation="nearest", cmap=colours, vmin=low, vmax=high)


def _label_time(axes: Axes, reply: Mapping[str, Any], sequence: int) -> None:
    steps = [step for step in reply["time_steps"] if step < reply["sequence_lengths"][sequence]]
    tokens = reply.get("tokens")
    aligned = tokens and len(tokens[sequence]) == reply["sequence_lengths"][sequence]  # not if its steps are its own
    if tokens and aligned and len(steps) <= MOST_TICKS:
        shown = [tokens[sequence][step].replace("\n", "↵") for step in steps]
        rotation = 0 if max(map(len, shown)) < 3 else 45  # noqa: PLR2004
        axes.set_xticks(range(len(steps)), shown, rotation=rotation, fontsize=8, parse_math=False)
    else:
        _label_indices(axes.xaxis, reply["time_steps"])
        axes.set_xlabel("time step", fontsize=9)


def _label_indices(axis: Axis, values: Sequence[int]) -> None:
    """Label position k of a heatmap with values[k], at as many positions as there is room for."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axis.set_major_locator(MaxNLocator(integer=True))
    axis.set_major_formatter(lambda at, _: str(values[round(at)]) if 0 <= at < len(values) else "")


def _units_of(units: Sequence[int], count: int) -> list[int]:
    """The units that a signal of this many has: of a projected one, the selected units below its size."""
    below = set(sorted(units)[:count])
    return [unit for unit in units if unit in below]
