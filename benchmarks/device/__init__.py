"""`python -m benchmarks device --out DIR`: parity, speed and served rates on this machine, within a time budget."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from benchmarks import library
from benchmarks.device import forward, machine, parity, served, synchronisations
from benchmarks.device.budget import Budget
from benchmarks.device.report import write

BUDGET_S, QUICK_BUDGET_S = 420.0, 12.0

PARITY_SHARE = 0.35
"""Of the budget at most: a way that is slow on a device must not take the time of the rest."""

SERVED_SHARE = 0.25
"""Of the budget that is kept for the last section."""


def main(
    *,
    out: Annotated[Path, typer.Option(help="A folder for device.json and device.md.")],
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What is timed and serves.")] = "auto",
    budget: Annotated[float, typer.Option(min=0, help="Seconds in all, 0 for the default; the rest is skipped.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A small grid, in a few seconds.")] = False,
) -> None:
    """Measure this machine; exit with 1 if a trace is not what the equations give."""
    began = time.monotonic()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    total = Budget(budget or (QUICK_BUDGET_S if quick else BUDGET_S))
    library.tune_process()
    described = machine.describe()
    sections = [parity.measure(total.share(PARITY_SHARE), quick=quick), synchronisations.measure(device)]
    sections.append(forward.measure(device, total.share(1, keep=SERVED_SHARE), quick=quick))
    sections.append(served.measure(device, total, quick=quick))
    facts = {"device": device, "quick": quick, "took_s": round(time.monotonic() - began, 1)}
    out.mkdir(parents=True, exist_ok=True)
    write(out, described | facts, sections)
    for section in sections:
        print(f"{section.title}: {len(section.rows)} rows; {section.note}")
    if any(row.get("ok") is False for row in sections[0].rows):
        raise typer.Exit(1)
