"""`gatescope analyse`: a question about what happens inside a model, answered as a table or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatescope.cli.asking import (
    InputOptions,
    ModelName,
    ScopeOptions,
    TableOptions,
    Where,
    check_folder,
    model_path,
    need_extra,
)
from gatescope.cli.command import cli
from gatescope.cli.options import with_options
from gatescope.cli.output import say, show
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np

    from gatescope.tables.sequences import Sequences

ONE_COLUMN = {"lesions": "targets", "selectivity": "classes"}
"""Analyses that take one column of a table, and as what."""
OUT_FORMATS = (".json", ".safetensors", ".nc", ".csv", ".parquet")


@cli.command()
@with_options
def analyse(  # noqa: PLR0913 - the options of a command
    analysis: Annotated[str, typer.Argument(help="Its name, such as timescales; docs/analyses.md lists them.")],
    model: ModelName,
    *,
    inputs: InputOptions,
    stated: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the analysis, as JSON; may be repeated."),
    ] = None,
    series: Annotated[
        str | None, typer.Option(metavar="COLUMN,…", help="Columns of the table that are the series, or the targets.")
    ] = None,
    scope: ScopeOptions,
    tables: TableOptions,
    out: Annotated[Path | None, typer.Option(help="Write it: .json, .safetensors, .nc, .csv or .parquet.")] = None,
    where: Where,
) -> None:
    """Answer a question about what happens inside a model: a table on a terminal, JSON into a pipe, or a file."""
    from dataclasses import replace

    from gatescope.cli import terminal

    _check_out(out)
    reading = tables.reading()
    columns = tuple(name.strip() for name in (series or "").split(",") if name.strip())
    with where.connected(model) as (connection, info):
        body = inputs.read(info, replace(reading, series=columns))
        request = body.request | _parameters(stated or []) | _series(body.sequences, columns, analysis)
        request |= scope.request
        path = f"{model_path(model)}/analyses/{analysis}"
        if out is not None and out.suffix == ".safetensors":
            out.write_bytes(connection.post(path, request, "application/vnd.safetensors"))
            say(f"wrote {out}")
            return
        reply = connection.post(path, request)
    if out is None:
        show(reply, lambda width: terminal.analysis(json.loads(reply), width))
        return
    _write(reply, out)
    say(f"wrote {out}")


def _parameters(stated: list[str]) -> dict[str, Any]:
    """What `--set` says: JSON, or a text as it is."""
    found: dict[str, Any] = {}
    for each in stated:
        name, sign, value = each.partition("=")
        if not sign or not name:
            raise InvalidInput(f"--set {each}: write NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def _series(sequences: Sequences | None, columns: tuple[str, ...], analysis: str) -> dict[str, Any]:
    """The columns as the analysis takes them."""
    if not columns:
        return {}
    if sequences is None:
        raise InvalidInput("--series names columns of a table: give --input FILE.csv or another table")
    rows = {name: [_with_null(row) for row in sequences.series[name]] for name in columns}
    if analysis in ONE_COLUMN:
        if len(columns) > 1:
            raise InvalidInput(f"--series {','.join(columns)}: {analysis} takes one column")
        return {ONE_COLUMN[analysis]: rows[columns[0]]}
    return {"series": [{"name": name, "values": values} for name, values in rows.items()]}


def _with_null(values: np.ndarray) -> list[float | int | None]:
    """Null where there is no value; whole numbers, which may be classes, as such."""
    import numpy as np

    known = values[~np.isnan(values)]
    is_whole = (known == np.round(known)).all()
    return [None if np.isnan(value) else int(value) if is_whole else float(value) for value in values]


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix not in OUT_FORMATS:
        known = ", ".join(OUT_FORMATS)
        raise InvalidInput(f"--out {out}: a result is written as {known}, not as '{out.suffix}'")
    check_folder("--out", out)
    if out.suffix in {".nc", ".csv", ".parquet"}:
        need_extra("xarray", "xarray")


def _write(reply: bytes, out: Path) -> None:
    if out.suffix == ".json":
        out.write_bytes(reply)
        return
    from gatescope.analysis.result import Result

    dataset = Result.of_reply(json.loads(reply)).to_xarray()
    if out.suffix == ".nc":
        dataset.to_netcdf(out, engine="h5netcdf")
        return
    from gatescope.tables.writing import table_writer

    with table_writer(out) as table:
        table.write(dataset.to_dataframe().reset_index())
