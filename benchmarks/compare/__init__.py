"""`python -m benchmarks compare --base DIR`: another checkout beside this one, in turns, row by row."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.checkout import HERE, Checkout, NoCheckout
from benchmarks.compare import over_http, process
from benchmarks.compare.interval import Interval
from benchmarks.connection import Refused
from benchmarks.console import console as wide_console
from benchmarks.server import DidNotStart, WrongAnswer
from benchmarks.wrk import Failed, Missing

LEAST_MEAN = 0.97
"""A table passes with this geometric mean of its rows' ratios, or more."""

LEAST_ROW = 0.93
"""A row passes unless its interval lies wholly below this."""

Speeds = Mapping[str, Callable[[], float]]
"""Of each row what measures its speed once: calls, requests or steps a second."""

Pairs = dict[str, list[tuple[float, float]]]
"""Of each row the speeds of the base and of this checkout, round by round."""

TABLES: dict[str, Callable[[Checkout, float], AbstractContextManager[Speeds]]] = {
    "serving": over_http.serving,
    "sessions": over_http.sessions,
    **{table: partial(process.speeds, table) for table in ("trace", "steps", "encoding")},
}

IMPOSSIBLE = 2
"""The exit status when something could not be measured."""


def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE]...", help="Which tables; all by default.")
    ] = None,
    *,
    base: Annotated[Path, typer.Option(help="The checkout to compare with.")],
    rounds: Annotated[int, typer.Option(min=2, help="How often each row is measured on either side.")] = 12,
    seconds: Annotated[int, typer.Option(min=1, help="How long a turn over HTTP is; a tenth of it in process.")] = 2,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the results.")] = None,
) -> None:
    """Print the speed of this checkout over the base's; exit with 1 if it is slower.

    A table fails if its geometric mean is below 0.97, a row if its 95 % interval lies wholly below 0.93.
    """
    if unknown := set(names or ()) - set(TABLES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: the tables are {', '.join(TABLES)}")
    console = wide_console()
    results, problems = {}, []
    try:
        old = Checkout(base.resolve())
        for name in names or TABLES:
            pairs = measure(name, old, rounds, seconds)
            results[name] = summary(pairs)
            problems += [f"{name}: {problem}" for problem in failures(results[name])]
            console.print(_table(name, results[name], rounds))
    except (NoCheckout, Missing, DidNotStart, Failed, Refused, WrongAnswer, process.Broken) as error:
        console.print(f"not measured: {error}")
        raise typer.Exit(IMPOSSIBLE) from error
    finally:
        if out is not None:
            told = {"rounds": rounds, "seconds": seconds, "tables": results, "problems": problems}
            out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    console.print("\n".join(problems) or "nothing is slower")
    if problems:
        raise typer.Exit(1)


def measure(name: str, base: Checkout, rounds: int, seconds: float) -> Pairs:
    """The speeds of every row that both sides have.

    Each round starts the processes of both sides anew, and every row is measured on both sides before the next one.
    Which side is first alternates.
    """
    pairs: Pairs = {}
    progress = Console(stderr=True)
    for number in range(rounds):
        progress.print(f"  {name}, round {number + 1} of {rounds}", style="dim")
        with ExitStack() as stack:
            sides = [stack.enter_context(TABLES[name](checkout, seconds)) for checkout in (base, HERE)]
            for position, row in enumerate(row for row in sides[1] if row in sides[0]):
                pairs.setdefault(row, []).append(
                    _turn([side[row] for side in sides], base_first=(number + position) % 2 == 0)
                )
    return pairs


def _turn(ways: Sequence[Callable[[], float]], *, base_first: bool) -> tuple[float, float]:
    base, new = ways
    if base_first:
        before = base()
        return before, new()
    after = new()
    return base(), after


def summary(pairs: Pairs) -> dict[str, Any]:
    """The ratio new over base of every row, and of all rows together."""
    ratios = {row: [new / base for base, new in turns] for row, turns in pairs.items()}
    together = [statistics.geometric_mean(of_round) for of_round in zip(*ratios.values(), strict=True)]
    return {
        "geometric_mean": Interval.of(together)._asdict(),
        "rows": {
            row: {
                "base": statistics.median(base for base, _ in pairs[row]),
                "new": statistics.median(new for _, new in pairs[row]),
                **Interval.of(ratios[row])._asdict(),
            }
            for row in pairs
        },
    }


def failures(result: Mapping[str, Any]) -> Iterator[str]:
    """What is slower than it may be, in words."""
    if result["geometric_mean"]["ratio"] < LEAST_MEAN:
        yield f"the geometric mean {result['geometric_mean']['ratio']:.3f} is below {LEAST_MEAN}"
    for row, told in result["rows"].items():
        if told["high"] < LEAST_ROW:
            yield f"{row}: {told['low']:.3f} to {told['high']:.3f} lies below {LEAST_ROW}"


def _table(name: str, result: Mapping[str, Any], rounds: int) -> Table:
    table = Table(name, "base, 1/s", "new, 1/s", "new / base", "95 % interval")
    for row, told in result["rows"].items():
        table.add_row(row, f"{told['base']:,.4g}", f"{told['new']:,.4g}", *_shown(told))
    table.add_section()
    table.add_row("geometric mean", "", "", *_shown(result["geometric_mean"]))
    table.caption = f"{rounds} rounds; above 1 is faster than the base"
    return table


def _shown(told: Mapping[str, float]) -> tuple[str, str]:
    return f"{told['ratio']:.3f}", f"{told['low']:.3f} to {told['high']:.3f}"
