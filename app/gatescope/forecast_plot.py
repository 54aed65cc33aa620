"""A picture of predictions over time: beside what was measured, with what lies ahead, the warm-up and quantiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.records import About, Record, moments

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 8

OBSERVED, PREDICTED, FURTHER, BASELINE = "observed", "predicted", "further", "baseline"
_STYLES: Mapping[str, Mapping[str, Any]] = {
    OBSERVED: {"color": "#222222", "linewidth": 1.1, "zorder": 2},
    PREDICTED: {"color": "#1f6fb4", "linewidth": 1.3, "zorder": 4},
    FURTHER: {
        "color": "#d1580f",
        "linewidth": 1.5,
        "linestyle": (0, (4, 1.5)),
        "marker": ".",
        "markersize": 4,
        "zorder": 5,
    },
    BASELINE: {"color": "#8a8a8a", "linewidth": 0.9, "linestyle": ":", "zorder": 3},
}
_BAND = "#1f6fb4"
_FEW = 40  # points of a line that are marked each
_MEDIAN = 0.5
_PER_SEQUENCE = 2  # axes of values: (batch, value)


@dataclass(frozen=True, eq=False)
class Line:
    """Values over time."""

    kind: str
    """Its style: `OBSERVED`, `PREDICTED`, `FURTHER` or `BASELINE`."""
    label: str
    at: np.ndarray
    """(point,): datetime64, numbers or steps."""
    values: np.ndarray
    """(point,); a line is broken at NaN."""


@dataclass(frozen=True, eq=False)
class Band:
    """From one quantile to another."""

    label: str
    at: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class Panel:
    """One output of one sequence."""

    title: str
    y_label: str
    lines: Sequence[Line]
    bands: Sequence[Band] = ()
    warmup: tuple[Any, Any] | None = None
    """The first and the last time of it."""


def draw(
    panels: Sequence[Panel],
    title: str,
    *,
    warmup_steps: int = 0,
    x_label: str | None = None,
    count: int | None = None,
) -> Figure:
    """Draw panels one below the other, no more than `MOST_PANELS`; the title says when there are more.

    Args:
        panels: to draw.
        title: what stands above.
        count: how many panels there would be, where these are the first of them.
        warmup_steps: how many steps the model needs to warm up, for the words in the shaded part.
        x_label: what the times are; "time step" of numbers of steps.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("a plot needs matplotlib: pip install 'gatescope[plot]'", name="matplotlib")
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, wanted for this alone

    shown = panels[:MOST_PANELS]
    figure = Figure(figsize=(10, 1.1 + (3.6 if len(shown) == 1 else 2.5) * len(shown)), layout="constrained", dpi=120)
    grid = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axes, panel in zip(grid, shown, strict=True):
        _draw_panel(axes, panel, warmup_steps)
    if x_label is not None:
        grid[-1].set_xlabel(x_label, fontsize=9)
    if max(len(panels), count or 0) > len(shown):
        title += f"\nthe first {len(shown)} of {max(len(panels), count or 0)}"
    figure.suptitle(title, fontsize=11, parse_math=False)
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        legend = figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)), fontsize=9
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _draw_panel(axes: Axes, panel: Panel, warmup_steps: int) -> None:
    from matplotlib import dates  # noqa: PLC0415

    if any(line.at.dtype.kind == "M" for line in panel.lines):
        locator = dates.AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    for index, band in enumerate(panel.bands):
        alpha = 0.16 + 0.12 * index
        axes.fill_between(band.at, band.low, band.high, color=_BAND, alpha=alpha, linewidth=0, label=band.label)
    for line in panel.lines:
        style = dict(_STYLES[line.kind])
        if len(line.at) <= _FEW and line.kind in {OBSERVED, PREDICTED}:
            style |= {"marker": ".", "markersize": 4}
        axes.plot(line.at, line.values, label=line.label, **style)
    if panel.warmup is not None:
        first, last = panel.warmup
        axes.axvspan(first, last, color="#999999", alpha=0.22, linewidth=0, zorder=1)
        axes.annotate(
            f"warm-up: fewer than {warmup_steps} steps read",
            (first, 0.97),
            (4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color="#444444",
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1},
            zorder=6,
        )
    axes.set_ylabel(panel.y_label, fontsize=9, parse_math=False)
    axes.set_title(panel.title, fontsize=9, loc="left", parse_math=False)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.25, linewidth=0.5)
    axes.margins(x=0.01)


def of_records(
    records: Sequence[Record], about: About, info: Mapping[str, Any], *, has_horizon: bool, warms_up: bool
) -> list[Panel]:
    """A panel for each output of each sequence.

    Args:
        records: of a model of quantities.
        about: what they have in common.
        info: ModelInfo of the model.
        has_horizon: whether the predictions are of a horizon.
        warms_up: whether the first predictions are not to be believed.
    """
    maker = _Panels(about, info, has_horizon=has_horizon, warms_up=warms_up)
    names = info["output"]["names"]
    return [maker.panel(record, index, name) for record in records for index, name in enumerate(names)]


class _Panels:
    def __init__(self, about: About, info: Mapping[str, Any], *, has_horizon: bool, warms_up: bool) -> None:
        output = info["output"]
        self._about, self._quantiles, self._has_horizon = about, output.get("quantiles") or (), has_horizon
        self._warmup_steps = (info.get("warmup_steps") or 0) if warms_up else 0
        is_fed_back = has_horizon and output.get("predicts") == "next_step"
        self._further = "further steps, predictions fed back" if is_fed_back else "further steps"

    def panel(self, record: Record, index: int, name: str) -> Panel:
        """One output of one sequence."""
        if record.prediction is None or record.prediction_steps is None:
            raise TypeError("there is nothing to draw")
        known = record.steps - (len(record.prediction) if self._has_horizon else 0)
        has_times = record.timestamps is not None and record.prediction_timestamps is not None
        at: Any = record.timestamps if has_times else np.arange(record.steps)
        ahead: Any = record.prediction_timestamps if has_times else record.prediction_steps
        count = max(1, len(self._quantiles))
        values = record.prediction[:, index * count : (index + 1) * count]
        is_further = record.prediction_steps >= known
        lines = [*self._observed(record, name, at, known), *self._predicted(ahead, values, is_further)]
        units = self._about.output_units
        unit = f" [{units[index]}]" if index < len(units) and units[index] else ""
        warm = ahead[record.prediction_steps < self._warmup_steps]
        return Panel(
            record.id or "",
            f"{name}{unit}",
            [line for line in lines if len(line.at)],
            list(_bands(ahead, values, self._quantiles)),
            (warm[0], warm[-1]) if len(warm) else None,
        )

    def _observed(self, record: Record, name: str, at: np.ndarray, known: int) -> Iterator[Line]:
        if name in record.observed:
            yield Line(OBSERVED, "observed", at, record.observed[name])
        elif record.inputs is not None and name in self._about.features:
            measured = record.inputs[:known, self._about.features.index(name)]
            yield Line(OBSERVED, "observed", at[:known], measured)

    def _predicted(self, ahead: np.ndarray, values: np.ndarray, is_further: np.ndarray) -> Iterator[Line]:
        middle = _middle(self._quantiles)
        if middle is None:
            return
        words = " (median)" if self._quantiles else ""
        yield Line(PREDICTED, f"predicted{words}", ahead[~is_further], values[~is_further, middle])
        yield Line(FURTHER, f"{self._further}{words}", ahead[is_further], values[is_further, middle])


def _middle(quantiles: Sequence[float]) -> int | None:
    """Which value is the line; None of quantiles without a median."""
    if not quantiles:
        return 0
    return list(quantiles).index(_MEDIAN) if _MEDIAN in quantiles else None


def _bands(at: np.ndarray, values: np.ndarray, quantiles: Sequence[float]) -> Iterator[Band]:
    """From the outermost quantiles to the innermost."""
    for low in range(len(quantiles) // 2):
        high = len(quantiles) - 1 - low
        label = f"quantiles {quantiles[low]:g} to {quantiles[high]:g}"
        yield Band(label, at, values[:, low], values[:, high])


def of_values(
    values: np.ndarray, timestamps: Sequence[Any] | None, ids: Sequence[str] | None, names: Sequence[str]
) -> list[Panel]:
    """A panel for each value of each sequence of what the client was told.

    Args:
        values: (batch, time, value), padded with NaN, or (batch, value) of one prediction for each sequence.
        timestamps: when each is for, a list for each sequence, or a time for each; None of predictions without times.
        ids: of the sequences.
        names: of the values; they are numbered where there are none.
    """
    panels = []
    for row, own in enumerate(values[:, None] if values.ndim == _PER_SEQUENCE else values):
        at = np.arange(len(own))
        if timestamps is not None:
            said = timestamps[row]
            at = moments(said if isinstance(said, list) else [said])
        for index, series in enumerate(own[: len(at)].T):
            name = names[index] if names else f"value {index}"
            title = str(row) if ids is None else ids[row]
            panels.append(Panel(title, name, [Line(PREDICTED, "predicted", at, series)]))
    return panels


def of_backtest(
    rows: Sequence[Mapping[str, Any]], y_label: str, quantiles: Sequence[float], baseline: str
) -> list[Panel]:
    """A panel for each sequence of a backtest: predictions of each origin, what was measured and a naive forecast.

    Bands are of the first origin that predicts a step.

    Args:
        rows: of `gatescope.tables.backtest.Backtest`.
        y_label: the output and its unit.
        quantiles: of a quantile task.
        baseline: `naive` or `seasonal_naive`.
    """
    panels = []
    for name, members in groupby(rows, lambda row: row["id"]):
        own = list(members)
        origins = [list(each) for _, each in groupby(own, lambda row: row["origin"])]
        at = _when(own)
        steps = np.array([row["origin"] + row["step"] for row in own])
        first = np.unique(steps, return_index=True)[1]
        observed = np.array([row["observed"] for row in own], dtype=np.float64)
        lines = [Line(OBSERVED, "observed", at[first], observed[first])]
        lines.append(_broken(BASELINE, baseline.replace("_", " "), origins, baseline))
        if _middle(quantiles) is not None:
            lines.append(_broken(PREDICTED, "predicted" + (" (median)" if quantiles else ""), origins, "predicted"))
        values = np.array([row["quantiles"] for row in own], dtype=np.float64) if quantiles else np.empty((len(own), 0))
        bands = list(_bands(at[first], values[first], quantiles))
        panels.append(Panel(name or "", y_label, lines, bands))
    return panels


def _when(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    times = [row["time"] for row in rows]
    return np.array([row["origin"] + row["step"] for row in rows]) if times[0] is None else moments(times)


def _broken(kind: str, label: str, origins: Sequence[Sequence[Mapping[str, Any]]], name: str) -> Line:
    """One line that begins anew at each origin; not broken where each origin predicts one step."""
    at = [_when(rows) for rows in origins]
    values = [np.array([row[name] for row in rows], dtype=np.float64) for rows in origins]
    if any(len(each) > 1 for each in values):
        at = [np.concatenate((each, each[-1:])) for each in at]
        values = [np.append(each, np.nan) for each in values]
    return Line(kind, label, np.concatenate(at), np.concatenate(values))
