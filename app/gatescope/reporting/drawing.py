"""A `Strip` as inline SVG: the state with the series that it follows, and the gates below."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from gatescope.reporting.strips import Strip

WIDTH, LEFT, RIGHT = 960, 132, 12
STATE_HEIGHT, GATE_HEIGHT, GAP = 120, 44, 14
MOST_TOKENS = 100
"""More are not written below the picture."""

_TICKS = 6


def drawing(strip: Strip, name: str, where: str) -> str:
    """A figure with its caption.

    Args:
        strip: is drawn.
        name: of the unit.
        where: which part of which sequence it is.
    """
    state = strip.signals[strip.state]
    gates = {each: values for each, values in strip.signals.items() if each != strip.state}
    parts, top = [_panel(strip.state, state, 6, STATE_HEIGHT, _limits(state))], 6
    parts += [_overlay(values, state, top, index) for index, values in enumerate(strip.series.values())]
    top += STATE_HEIGHT + GAP
    for gate, values in gates.items():
        parts.append(_panel(gate, values, top, GATE_HEIGHT, (0.0, 1.0)))
        top += GATE_HEIGHT + GAP
    parts.append(_axis(strip, top))
    title = f"{name}: {strip.state.replace('_', ' ')} and gates over time, {where}"
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {top + 26}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
        f"<figcaption>{escape(where)}{_legend(strip.series, state)}</figcaption></figure>"
    )


def _panel(name: str, values: np.ndarray, top: int, height: int, limits: tuple[float, float]) -> str:
    low, high = limits
    zero = ""
    if low < 0 < high:
        y = top + height * high / (high - low)
        zero = f'<line class="zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    kind = "state" if height == STATE_HEIGHT else "gate"
    return (
        f'<rect class="panel" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{height}"/>{zero}'
        f'<path class="{kind}" d="{_path(values, top, height, limits)}"/>'
        f'<text x="0" y="{top + height / 2 + 4:.1f}">{escape(name.replace("_", " "))}</text>'
        f'<text class="end" x="{LEFT - 6}" y="{top + 10}">{_short(high)}</text>'
        f'<text class="end" x="{LEFT - 6}" y="{top + height}">{_short(low)}</text>'
    )


def _overlay(series: np.ndarray, state: np.ndarray, top: int, index: int) -> str:
    """A series, in its own range, turned where it runs against the state."""
    known = ~np.isnan(series)
    if known.sum() < 2:  # noqa: PLR2004 - a line has two points
        return ""
    turned = -series if _runs_against(series, state) else series
    return f'<path class="series s{index % 3}" d="{_path(turned, top, STATE_HEIGHT, _limits(turned))}"/>'


def _runs_against(series: np.ndarray, state: np.ndarray) -> bool:
    known = ~np.isnan(series)
    return float(((series[known] - series[known].mean()) * (state[known] - state[known].mean())).sum()) < 0


def _path(values: np.ndarray, top: int, height: int, limits: tuple[float, float]) -> str:
    """A line over time, with gaps at NaN."""
    low, high = limits
    x = LEFT + (np.arange(len(values)) + 0.5) * (WIDTH - LEFT - RIGHT) / len(values)
    y = top + height * (high - np.clip(values, low, high)) / (high - low)
    pieces, is_down = [], False
    for each_x, each_y in zip(x, y, strict=True):
        if np.isnan(each_y):
            is_down = False
            continue
        pieces.append(f"{'L' if is_down else 'M'}{each_x:.1f} {each_y:.1f}")
        is_down = True
    return "".join(pieces)


def _axis(strip: Strip, top: int) -> str:
    """What is read at each step, or some times or steps."""
    steps = len(strip.signals[strip.state])
    width = (WIDTH - LEFT - RIGHT) / steps
    is_text = bool(strip.labels) and all(len(label) <= 2 for label in strip.labels)  # noqa: PLR2004 - characters
    if is_text and steps <= MOST_TOKENS:
        places = range(steps)
        shown = [label if label.strip() else "␣" for label in strip.labels]
    else:
        every = max(1, -(-steps // _TICKS))
        places = range(0, steps, every)
        shown = [
            strip.labels[step][:16] if strip.labels and not is_text else f"{strip.start + step:,}"
            for step in range(steps)
        ]
    return "".join(
        f'<text class="tick" x="{LEFT + (step + 0.5) * width:.1f}" y="{top + 4}">{escape(shown[step])}</text>'
        for step in places
    )


def _legend(series: Mapping[str, np.ndarray], state: np.ndarray) -> str:
    made = ""
    for index, (name, values) in enumerate(series.items()):
        turned = ", turned over" if _runs_against(values, state) else ""
        made += f' <span class="key k{index % 3}"></span>{escape(name)} (own scale{turned})'
    return made


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
