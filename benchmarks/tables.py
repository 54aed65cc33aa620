"""Every table, each from one interleaved run; names given choose among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import (
    analyses,
    beside,
    comparison,
    corpora,
    encoding,
    graphs,
    interventions,
    library,
    open_loop,
    serving,
    sessions,
    trace,
)
from benchmarks.connection import Refused
from benchmarks.pace import Pace
from benchmarks.server import DidNotStart
from benchmarks.wrk import Failed, Missing

IN_PROCESS: dict[str, Callable[[], Table]] = {
    "memory": trace.memory,
    "trace": trace.padded,
    "cells": trace.cells,
    "onnx": graphs.onnx,
    "ragged": trace.ragged,
    "steps": trace.steps,
    "scaling": trace.scaling,
    "encoding": encoding.measure,
    "interventions": interventions.measure,
    "analyses": analyses.measure,
    "corpora": corpora.measure,
}
OVER_HTTP: dict[str, Callable[[Pace], list[Table]]] = {
    "serving": serving.measure,
    "open-loop": open_loop.measure,
    "sessions": sessions.measure,
    "beside": beside.measure,
}
BESIDE_PEERS: dict[str, Callable[[Pace], list[Table]]] = {"peers": comparison.measure}
"""Only where they are named: they install what they measure."""

MARKDOWN_WIDTH = 200


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Which tables; all but the peers' by default.")] = None,
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Over HTTP: how often every way has its turn.")] = Pace.rounds,
    seconds: Annotated[int, typer.Option(min=1, help="Over HTTP: how long a turn is.")] = Pace.seconds,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print what docs/performance.md holds.")] = False,
) -> None:
    """Print these tables.

    `compare`, `device`, `hostile` and `overload` are commands of their own: `python -m benchmarks compare --help`.
    """
    library.quiet()
    library.tune_process()
    console = Console(width=MARKDOWN_WIDTH if markdown else None)
    console.print(_heading())
    pace = Pace(rounds, seconds)
    for name in names or [*IN_PROCESS, *OVER_HTTP]:
        for table in _tables(name, pace):
            if markdown:
                table.box, table.caption_justify = box.MARKDOWN, "left"
            console.print(table)


def _heading() -> str:
    versions = (f"{package} {version(package)}" for package in ("torch", "uvicorn"))
    today = datetime.now(tz=UTC).date()
    return f"{', '.join(versions)}, {os.cpu_count()} processors, {torch.get_num_threads()} threads, {today}"


def _tables(name: str, pace: Pace) -> list[Table]:
    if name in IN_PROCESS:
        return [IN_PROCESS[name]()]
    over_http = OVER_HTTP | BESIDE_PEERS
    if name not in over_http:
        raise typer.BadParameter(f"{name} is none of {', '.join([*IN_PROCESS, *over_http])}")
    try:
        return over_http[name](pace)
    except (Missing, DidNotStart, Failed, Refused) as error:
        return [Table(f"{name}: {error}")]
