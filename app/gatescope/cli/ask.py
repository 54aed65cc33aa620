"""`gatescope predict` and `gatescope trace`: a model asked from a terminal or a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatescope.cli.answer_files import ARRAY_FORMATS, check_extra, plot_forecast, write_arrays
from gatescope.cli.asking import (
    TABLES,
    Horizon,
    InputFiles,
    InputOptions,
    ModelName,
    ScopeOptions,
    TableOptions,
    TextOption,
    Where,
    check_folder,
    check_plot,
    check_table_out,
    is_folder,
    model_path,
    need_extra,
    warn_unverified,
)
from gatescope.cli.command import cli
from gatescope.cli.options import with_options
from gatescope.cli.output import bar, say, show
from gatescope.cli.table_files import Asked, files_of, write_tables
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    from gatescope.cli.connection import Connection
    from gatescope.client import Token
    from gatescope.tables.requests import Body
    from gatescope.tables.windows import Rolling

Temperature = Annotated[float | None, typer.Option(min=0, help="How tokens are drawn; 0: always the likeliest.")]
TopK = Annotated[int | None, typer.Option(min=1, help="Draw from so many of the likeliest tokens only.")]
TopP = Annotated[float | None, typer.Option(max=1, help="Draw from the likeliest that sum up to this probability.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Each seed draws other tokens.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Write so many texts.")]
Stop = Annotated[list[str] | None, typer.Option(help="End a text with this; may be repeated.")]
Stream = Annotated[bool, typer.Option("--stream", help="Write the text alone, as it comes.")]

OUT_FORMATS = {
    ".json": "application/json",
    ".safetensors": "application/vnd.safetensors",
    ".npz": "application/x-npz",
}
"""A trace that is written as the reply that it is."""
TRACE_FORMATS = (*OUT_FORMATS, ".nc", ".zarr")


@cli.command()
@with_options
def predict(  # noqa: PLR0913, PLR0917 - the options of a command
    model: ModelName,
    input_files: InputFiles = None,
    text: TextOption = None,
    horizon: Horizon = None,
    window: Annotated[int | None, typer.Option(min=1, help="Predict from each window of so many steps.")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Steps between windows; the horizon by default.")] = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    samples: Samples = None,
    stop: Stop = None,
    *,
    tables: TableOptions,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the predictions: .csv, .parquet, .arrow, .json, .npy, .npz, .nc, .zarr, or tables in a folder."
        ),
    ] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw the forecast: .png, .svg or .pdf.")] = None,
    stream: Stream = False,
    where: Where,
) -> None:
    """Predict for a file or a text: a table on a terminal, JSON into a pipe, or a table in a file."""
    from gatescope.cli import terminal

    files, rolling = files_of(input_files or []), _rolling(window, stride, horizon)
    is_table = _check_out(out, len(files), plot_file, is_rolling=rolling is not None)
    reading = tables.reading()
    if out is not None and is_table and files and text is None:
        asked = Asked(files, reading, None if rolling else horizon, rolling)
        _write_tables(asked, out, lambda: where.connected(model, is_shown=False))
        if plot_file is None:
            return
        out = None
    given_input = InputOptions(files[0] if files else None, text, horizon)
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed, "samples": samples, "stop": stop}
    sampling = {name: value for name, value in given.items() if value not in (None, [])}
    if stream and samples is not None:
        raise InvalidInput("--stream writes one text: leave --samples out")
    with where.connected(model, is_shown=not stream) as (connection, info):
        body = given_input.read(info, reading)
        if sampling:
            said = body.request.get("sampling", {}) | _in_ids(sampling, info)
            body = body._replace(request=body.request | {"sampling": said})
        if stream:
            warn_unverified(info)
            _write_tokens(connection.generate(model, body.request))
            return
        warn_unverified(info)
        if _in_files(connection, body, info, out, plot_file):
            return
        if is_table and out is not None:
            raise InvalidInput(f"--out {out}: a table is written of a table; take .json")
        reply = connection.post(f"{model_path(model)}/predict", body.labelled)
    if out is not None:
        out.write_bytes(reply)
        say(f"wrote {out}")
        return
    show(reply, lambda width: terminal.prediction(json.loads(reply), info, width))


@cli.command()
@with_options
def trace(  # noqa: PLR0913 - the options of a command
    model: ModelName,
    *,
    inputs: InputOptions,
    signal: Annotated[list[str] | None, typer.Option(help="Only this signal; may be repeated.")] = None,
    scope: ScopeOptions,
    tables: TableOptions,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the trace: .safetensors, .npz, .nc, .zarr, .json, or a table: .csv, .parquet, .arrow."
        ),
    ] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw the trace: .png, .svg or .pdf.")] = None,
    where: Where,
) -> None:
    """Trace every gate over a file or a text: a picture on a terminal, JSON into a pipe, or files."""
    from gatescope import plot
    from gatescope.cli import terminal

    _check_trace_out(out)
    check_plot(plot_file)
    reading = tables.reading()
    selection = scope.request | ({"signals": signal} if signal else {})
    if out is not None and out.suffix in TABLES and inputs.input_file is not None and inputs.text is None:
        asked = Asked([inputs.input_file], reading, inputs.horizon, selection=selection)
        _write_tables(asked, out, lambda: where.connected(model, is_shown=False))
        if plot_file is None:
            return
        out = None
    with where.connected(model) as (connection, info):
        body, path = inputs.read(info, reading), f"{model_path(model)}/trace"
        body = body._replace(request=body.request | selection)
        warn_unverified(info)
        if out is not None and out.suffix in OUT_FORMATS:
            out.write_bytes(connection.post(path, body.labelled, OUT_FORMATS[out.suffix]))
            say(f"wrote {out}")
        elif out is not None:
            write_arrays(connection, "trace", body, info, out)
        if out is not None and plot_file is None:
            return
        reply = connection.post(path, body.labelled)
    if plot_file is None:
        show(reply, lambda width: terminal.trace(json.loads(reply), info, width))
        return
    plot.save(json.loads(reply), info, plot_file)
    say(f"wrote {plot_file}")


def _rolling(window: int | None, stride: int | None, horizon: int | None) -> Rolling | None:
    from gatescope.tables.windows import Rolling

    if window is None and stride is not None:
        raise InvalidInput("--stride goes with --window")
    return None if window is None else Rolling(window, stride, horizon)


def _write_tables(
    asked: Asked, out: Path, connect: Callable[[], AbstractContextManager[tuple[Connection, Any]]]
) -> None:
    what = str(asked.files[0]) if len(asked.files) == 1 else f"{len(asked.files)} files"
    with bar(what) as tell, connect() as (connection, info):
        warn_unverified(info)
        write_tables(connection, info, asked, out, tell)


def _in_files(connection: Connection, body: Body, info: Any, out: Path | None, plot_file: Path | None) -> bool:
    """Draw and write predictions; whether nothing is left to be done."""
    if plot_file is not None:
        plot_forecast(connection, body, info, plot_file)
    if out is not None and out.suffix in ARRAY_FORMATS:
        write_arrays(connection, "predict", body, info, out)
        return True
    return plot_file is not None and out is None


def _in_ids(sampling: Mapping[str, Any], info: Any) -> dict[str, Any]:
    """The same with token ids for stops, of a model that reads no text."""
    if "stop" not in sampling or (info["input"] or {}).get("text"):
        return dict(sampling)
    return {**sampling, "stop": [int(each) if each.isdecimal() else each for each in sampling["stop"]]}


def _write_tokens(tokens: Iterator[Token]) -> None:
    """The text of the first sequence's first sample, as it comes."""
    for token in tokens:
        if token.sequence == token.sample == 0:
            text = token.text if token.text is not None else f"{token.token} "
            sys.stdout.write(text)
            sys.stdout.flush()
    sys.stdout.write("\n")


def _check_out(out: Path | None, files: int, plot_file: Path | None, *, is_rolling: bool) -> bool:
    """Refuse what could not be written, before it is computed; whether tables are."""
    to_folder = is_folder(out, files)
    check_table_out(None if to_folder else out, ARRAY_FORMATS)
    check_plot(plot_file)
    if out is not None:
        check_extra(out)
    if plot_file is not None and (files > 1 or is_rolling):
        raise InvalidInput("--plot draws the forecast of one file, without windows")
    is_table = out is not None and (to_folder or out.suffix in TABLES)
    if not is_table and (files > 1 or is_rolling):
        what = "several files" if files > 1 else "windows"
        raise InvalidInput(f"the predictions of {what} are written: give --out FILE.csv, FILE.parquet or a folder")
    return is_table


def _check_trace_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix not in {*TRACE_FORMATS, *TABLES}:
        known = ", ".join((*TRACE_FORMATS, *TABLES))
        raise InvalidInput(f"--out {out}: a trace is written as {known}, not as '{out.suffix}'")
    if out.suffix in TABLES:
        need_extra("pandas", "tables")
    check_folder("--out", out)
    check_extra(out)
