"""`gatescope backtest`: how well a model would have predicted a table, beside naive forecasts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatescope.cli.asking import (
    ModelName,
    TableOptions,
    Where,
    check_plot,
    check_table_out,
    model_path,
    warn_unverified,
)
from gatescope.cli.command import cli
from gatescope.cli.options import with_options
from gatescope.cli.output import say, show
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    from gatescope.tables.backtest import Backtest
    from gatescope.tables.sequences import Reading, Sequences


@cli.command()
@with_options
def backtest(  # noqa: PLR0913, PLR0917 - the options of a command
    model: ModelName,
    input_file: Annotated[Path, typer.Option("--input", help="A table of the past.")],
    target: Annotated[str | None, typer.Option(help="The output that is compared; the only one by default.")] = None,
    horizon: Annotated[int, typer.Option(min=1, help="How many steps are predicted from each origin.")] = 1,
    window: Annotated[int | None, typer.Option(min=1, help="How many steps are read; all by default.")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Steps between origins; the horizon by default.")] = None,
    season: Annotated[int | None, typer.Option(min=1, help="Steps of a season, for a seasonal naive forecast.")] = None,
    start: Annotated[int | None, typer.Option(min=1, help="The first step that is predicted.")] = None,
    *,
    tables: TableOptions,
    out: Annotated[Path | None, typer.Option(help="Write each prediction: .csv, .parquet or .json.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw the predictions: .png, .svg or .pdf.")] = None,
    where: Where,
) -> None:
    """Predict a table's past from many origins: its errors beside those of naive forecasts."""
    from gatescope.cli import terminal
    from gatescope.tables.backtest import Plan
    from gatescope.tables.backtest import backtest as run
    from gatescope.tables.sequences import Wanted

    check_table_out(out)
    check_plot(plot_file)
    reading = tables.reading()
    with where.connected(model) as (connection, info):
        sequences = _sequences(input_file, info, reading)
        warn_unverified(info)
        result = run(
            sequences,
            Wanted.of(info),
            target,
            Plan(horizon, window, stride, season, start),
            lambda body: json.loads(connection.post(f"{model_path(model)}/predict", body)),
        )
    if out is not None:
        _write(result, out)
    if plot_file is not None:
        _plot(result, info, plot_file)
    show(json.dumps(result.summary()).encode(), lambda _: terminal.backtest(result.summary()))


def _sequences(input_file: Path, info: Any, reading: Reading) -> Sequences:
    from gatescope.tables.requests import read_body
    from gatescope.tables.sequences import QUANTITIES

    if info["input"] is None:
        raise InvalidInput(f"model '{info['name']}' is {info['state']}: {info['reason']}")
    if info["output"]["kind"] not in QUANTITIES:
        raise InvalidInput(f"model '{info['name']}' is of task {info['output']['kind']}; a backtest takes a regression")
    sequences = read_body(input_file, info, reading).sequences
    if sequences is None:
        raise InvalidInput(f"{input_file}: a backtest takes a table, .csv for example, with what was measured")
    for note in sequences.notes:
        say(f"{input_file}: {note}")
    return sequences


def _plot(result: Backtest, info: Any, file: Path) -> None:
    from gatescope import forecast_plot

    baseline = "seasonal_naive" if "seasonal_naive" in result.baselines else "naive"
    units = dict(zip(info["output"]["names"], info["output"]["heads"][0]["units"] or (), strict=False))
    label = f"{result.target} [{units[result.target]}]" if units.get(result.target) else result.target
    panels = forecast_plot.of_backtest(result.rows, label, result.quantiles or (), baseline)
    errors = {"model": result.model["mae"], baseline.replace("_", " "): result.baselines[baseline]["mae"]}
    told = ", ".join(f"{name} {error:.4g}" for name, error in errors.items() if error is not None)
    title = f"{info['name']} (version {info['version']}): {result.origins} origins; mean absolute error: {told}"
    x_label = "time step" if result.rows[0]["time"] is None else None
    forecast_plot.draw(panels, title, x_label=x_label).savefig(file)
    say(f"wrote {file}")


def _write(result: Backtest, out: Path) -> None:
    from gatescope.tables.backtest import finite, flat
    from gatescope.tables.writing import table_writer

    if out.suffix == ".json":
        out.write_text(json.dumps(finite(result.rows)), encoding="utf-8")
    else:
        import pandas as pd

        with table_writer(out) as table:
            table.write(pd.DataFrame(flat(result.rows, result.quantiles)).dropna(axis="columns", how="all"))
    say(f"wrote {out}")
