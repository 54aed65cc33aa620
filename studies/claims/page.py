"""The tables of `docs/claims.md`, made of the numbers that are kept beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.claims.networks import KINDS
from studies.claims.results import NUMBERS, PAGE, Part, Spread, of_network, read
from studies.claims.tasks import LONGER_TASKS, TASKS

MARK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
SHOWN_DISTANCES = (10, 20, 39)
NEVER = "never"
_LESS_THAN = 1e-6  # smaller norms are shown as that


def write_tables(page: Path = PAGE, folder: Path = NUMBERS) -> None:
    """Put every table in its place, between its marks."""
    made = tables(folder)
    text = MARK.sub(lambda found: f"{found[1]}{made[found[2]]}\n{found[3]}", page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")


def tables(folder: Path = NUMBERS) -> dict[str, str]:
    """Every table by the name in its mark."""
    parts = {name: read(name, folder) for name in TASKS}
    longer = {name: read(name, folder) for name in (f"{task.name}-longer" for task in LONGER_TASKS)}
    cost = read("cost", folder)
    made = {f"{name}_{of}": table(part) for name, part in parts.items() for of, table in _OF_TASK.items()}
    made |= {name.replace("-", "_"): _learnt(part) for name, part in longer.items()}
    made |= {f"cost_{network}": _ratios(cost, network) for network in ("gru", "lstm")}
    return made | {
        "cost_times": _times(cost),
        "cost_trainings": _trainings(parts),
        "rates": _rates(parts | longer),
        "setup": _setup(parts | longer),
    }


def _learnt(part: Part) -> str:
    """The score at each test length."""
    lengths = part["setup"]["test_lengths"]
    form = "{:.4f}" if TASKS[part["task"]].is_regression else "{:.3f}"
    rows = [
        (title, *(_spread([run["score"][str(length)] for run in runs], form) for length in lengths))
        for title, runs in _networks(part)
    ]
    return _table(("network", *(f"length {length}" for length in lengths)), rows)


def _gradients(part: Part) -> str:
    """The norms at some distances, before and after training."""
    headings = [f"{when}, {distance}" for when in ("initial", "trained") for distance in SHOWN_DISTANCES]
    rows = []
    for title, runs in _networks(part):
        for state in runs[0]["initial"]["gradient"]:
            cells = [
                _spread([_at(part, run[when]["gradient"][state], distance) for run in runs], "{:.2g}")
                for when in ("initial", "trained")
                for distance in SHOWN_DISTANCES
            ]
            rows.append((title, state.replace("_", " "), *cells))
    return _table(("network", "with respect to", *headings), rows)


def _memory(part: Part) -> str:
    """When a changed first input is forgotten, and what is left of it at the end."""
    rows = []
    for title, runs in _networks(part):
        cells = []
        for when in ("initial", "trained"):
            steps = [float("inf") if each is None else each for run in runs for each in run[when]["forgotten_after"]]
            left = [_at(part, run[when]["memory"], SHOWN_DISTANCES[-1]) for run in runs]
            cells += [_spread(steps, "{:g}"), _spread(left, "{:.2g}")]
        rows.append((title, *cells))
    last = SHOWN_DISTANCES[-1]
    headings = [
        f"{when}, {what}" for when in ("initial", "trained") for what in ("forgotten after", f"left after {last}")
    ]
    return _table(("network", *headings), rows)


def _rates(parts: dict[str, Part]) -> str:
    """The learning rates that the pilots chose."""
    chosen = {name: {each["network"]: f"{each['rate']:g}" for each in part["pilot"]} for name, part in parts.items()}
    rows = [(kind.title, *(chosen[part].get(name, "") for part in parts)) for name, kind in KINDS.items()]
    return _table(("network", *parts), rows)


def _ratios(part: Part, network: str) -> str:
    """The CPU time of a network over that of the plain one: the median, and the middle half of the rounds."""
    ways = _ways(part)
    rows = []
    for shape, equal, runs in _by_shape(part):
        sizes = [f"{runs[ways[0]]['hidden_size'][name]}" for name in ("rnn", network)]
        ratios = ["{1:.2f} ({0:.2f} to {2:.2f})".format(*runs[way]["ratio"][network]) for way in ways]
        rows.append((shape, equal, " and ".join(sizes), *ratios))
    return _table(("units × batch × steps", "equal", "units of RNN and of it", *ways), rows)


def _times(part: Part) -> str:
    """Microseconds a time step of each network of the same hidden size."""
    ways = _ways(part)
    rows = [
        (shape, *(", ".join(f"{each:.1f}" for each in runs[way]["us_per_step"].values()) for way in ways))
        for shape, equal, runs in _by_shape(part)
        if equal == "units"
    ]
    return _table(("units × batch × steps", *ways), rows)


def _trainings(parts: dict[str, Part]) -> str:
    """CPU seconds of the trainings."""
    columns = [dict(_networks(part)) for part in parts.values()]
    rows = [
        (kind.title, *(_spread([run["cpu_s"] for run in column[kind.title]], "{:.1f}") for column in columns))
        for kind in KINDS.values()
    ]
    return _table(("network", *parts), rows)


def _ways(part: Part) -> list[str]:
    return list(dict.fromkeys(run["way"] for run in part["runs"]))


def _by_shape(part: Part) -> list[tuple[str, str, dict[str, Any]]]:
    """The shape, what is equal, and the run of each way."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in part["runs"]:
        shape = f"{run['units']} × {run['batch']} × {run['time']}"
        found.setdefault((shape, run["equal"]), {})[run["way"]] = run
    return [(*key, runs) for key, runs in found.items()]


def _setup(parts: dict[str, Part]) -> str:
    """Sizes and machine of each part."""
    names = ("units", "steps", "batch", "longest", "test_count", "seeds", "rates", "torch", "processor", "threads")
    rows = [(f"`{name}`", *(_plain(part["setup"][name]) for part in parts.values())) for name in names]
    return _table(("", *parts), rows)


_OF_TASK = {"learnt": _learnt, "gradients": _gradients, "memory": _memory}


def _networks(part: Part) -> list[tuple[str, list[Any]]]:
    names = {run["network"] for run in part["runs"]}
    return [(kind.title, of_network(part, name)) for name, kind in KINDS.items() if name in names]


def _at(part: Part, values: Sequence[float], distance: int) -> float:
    distances: list[int] = part["setup"]["distances"]
    return values[distances.index(distance)]


def _spread(values: Sequence[float], form: str) -> str:
    """The median, and the range in brackets."""
    median, least, most = (_number(value, form) for value in Spread.of(values))
    return median if least == most else f"{median} ({least} to {most})"


def _number(value: float, form: str) -> str:
    if value == float("inf"):
        return NEVER
    return f"< {_LESS_THAN:.0e}" if 0 < value < _LESS_THAN else form.format(value)


def _plain(value: Any) -> str:
    return ", ".join(f"{each:g}" for each in value) if isinstance(value, list) else str(value)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
