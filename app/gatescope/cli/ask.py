"""`gatescope predict` and `gatescope trace`: a model asked from a terminal or a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatescope.cli.answer_files import ARRAY_FORMATS, check_extra, plot_forecast, write_arrays
from gatescope.cli.asking import (
    DayFirst,
    FillOption,
    IdOption,
    InputFile,
    Key,
    MapOption,
    ModelName,
    StaticOption,
    TimesOption,
    Url,
    check_folder,
    check_plot,
    check_table_out,
    connected,
    model_path,
    table_reading,
    warn_unverified,
)
from gatescope.cli.command import cli
from gatescope.cli.options import DeviceOption, Models
from gatescope.cli.output import say, show
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    from gatescope.cli.connection import Connection
    from gatescope.client import Token
    from gatescope.tables.requests import Body
    from gatescope.tables.sequences import Reading

TextOption = Annotated[str | None, typer.Option(help="Text, for a model that reads text.")]
Horizon = Annotated[int | None, typer.Option(min=1, help="Run on for this many steps.")]
Temperature = Annotated[float | None, typer.Option(min=0, help="How tokens are drawn; 0: always the likeliest.")]
TopK = Annotated[int | None, typer.Option(min=1, help="Draw from so many of the likeliest tokens only.")]
TopP = Annotated[float | None, typer.Option(max=1, help="Draw from the likeliest that sum up to this probability.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Each seed draws other tokens.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Write so many texts.")]
Stop = Annotated[list[str] | None, typer.Option(help="End a text with this; may be repeated.")]
Stream = Annotated[bool, typer.Option("--stream", help="Write the text alone, as it comes.")]

LOCAL_STEPS, REMOTE_STEPS = 500_000, 50_000
"""Time steps of the sequences that are asked for together, at most, with their padding: here, and of a server."""
OUT_FORMATS = {
    ".json": "application/json",
    ".safetensors": "application/vnd.safetensors",
    ".npz": "application/x-npz",
}
"""A trace that is written as the reply that it is."""
TRACE_FORMATS = (*OUT_FORMATS, ".nc", ".zarr")


@cli.command()
def predict(  # noqa: PLR0913, PLR0917 - the options of a command
    model: ModelName,
    input_file: InputFile = None,
    text: TextOption = None,
    horizon: Horizon = None,
    mapping: MapOption = None,
    timestamps: TimesOption = None,
    id_column: IdOption = None,
    fill: FillOption = None,
    static: StaticOption = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    samples: Samples = None,
    stop: Stop = None,
    *,
    day_first: DayFirst = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the predictions: .csv, .parquet, .arrow, .json, .npy, .npz, .nc or .zarr."),
    ] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw the forecast: .png, .svg or .pdf.")] = None,
    stream: Stream = False,
    models: Models = None,
    device: DeviceOption = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Predict for a file or a text: a table on a terminal, JSON into a pipe, or a table in a file."""
    from gatescope.cli import terminal

    check_table_out(out, ARRAY_FORMATS)
    check_plot(plot_file)
    if out is not None:
        check_extra(out)
    reading = table_reading(mapping, timestamps, id_column, fill, static, day_first=day_first)
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed, "samples": samples, "stop": stop}
    sampling = {name: value for name, value in given.items() if value not in (None, [])}
    if stream and samples is not None:
        raise InvalidInput("--stream writes one text: leave --samples out")
    with connected(model, models, device, url, key, is_shown=not stream) as (connection, info):
        body = _body(info, input_file, text, horizon, reading)
        if sampling:
            said = body.request.get("sampling", {}) | _in_ids(sampling, info)
            body = body._replace(request=body.request | {"sampling": said})
        if stream:
            warn_unverified(info)
            _write_tokens(connection.generate(model, body.request))
            return
        warn_unverified(info)
        if plot_file is not None:
            plot_forecast(connection, body, info, plot_file)
            if out is None:
                return
        if out is not None and out.suffix in ARRAY_FORMATS:
            write_arrays(connection, "predict", body, info, out)
            return
        if out is not None and out.suffix != ".json":
            _write_table(connection, body, info, out)
            return
        reply = connection.post(f"{model_path(model)}/predict", body.labelled)
    if out is not None:
        out.write_bytes(reply)
        say(f"wrote {out}")
        return
    show(reply, lambda width: terminal.prediction(json.loads(reply), info, width))


@cli.command()
def trace(  # noqa: PLR0913, PLR0917 - the options of a command
    model: ModelName,
    input_file: InputFile = None,
    text: TextOption = None,
    horizon: Horizon = None,
    mapping: MapOption = None,
    timestamps: TimesOption = None,
    id_column: IdOption = None,
    fill: FillOption = None,
    static: StaticOption = None,
    *,
    day_first: DayFirst = None,
    out: Annotated[Path | None, typer.Option(help="Write the trace: .safetensors, .npz, .nc, .zarr or .json.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw the trace: .png, .svg or .pdf.")] = None,
    models: Models = None,
    device: DeviceOption = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Trace every gate over a file or a text: a picture on a terminal, JSON into a pipe, or files."""
    from gatescope import plot
    from gatescope.cli import terminal

    _check_out(out)
    check_plot(plot_file)
    with connected(model, models, device, url, key) as (connection, info):
        reading = table_reading(mapping, timestamps, id_column, fill, static, day_first=day_first)
        body, path = _body(info, input_file, text, horizon, reading), f"{model_path(model)}/trace"
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


def _body(info: Any, input_file: Path | None, text: str | None, horizon: int | None, reading: Reading) -> Body:
    if (input_file is None) == (text is None):
        raise InvalidInput("give either --input FILE or --text TEXT")
    if text is not None and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput("--text is not valid UTF-8")
    from gatescope.tables.requests import Body, read_body

    if input_file is None:
        body = Body({"text": text})
    elif info["input"] is None:
        raise InvalidInput(f"model '{info['name']}' is {info['state']}: {info['reason']}")
    else:
        body = read_body(input_file, info, reading)
        for note in body.sequences.notes if body.sequences is not None else ():
            say(f"{input_file}: {note}")
    if horizon is None:
        return body
    if body.sequences is not None and body.sequences.horizon not in {0, horizon}:
        raise InvalidInput(
            f"--horizon {horizon}: the table has {body.sequences.horizon} rows without a target at its end, which are "
            "the further steps; leave the option out"
        )
    return body._replace(request=body.request | {"horizon": horizon})


def _write_table(connection: Connection, body: Body, info: Any, out: Path) -> None:
    """The predictions beside the times, ids and measured values of the table that was asked."""
    from gatescope.tables.answers import prediction_frame
    from gatescope.tables.sequences import QUANTITIES, Wanted
    from gatescope.tables.writing import table_writer

    if body.sequences is None or info["output"]["kind"] not in QUANTITIES:
        raise InvalidInput(f"--out {out}: a table is written of a regression over a table; take .json or .npz")
    wanted, notes, horizon = Wanted.of(info), dict[str, None](), body.request.get("horizon")
    most_steps = REMOTE_STEPS if connection.is_remote else LOCAL_STEPS
    with table_writer(out) as table:
        for part in body.sequences.parts(most_steps):
            reply = connection.ask(f"{model_path(info['name'])}/predict", body.request | part.arrays())
            table.write(prediction_frame(reply, part, wanted, horizon))
            notes |= dict.fromkeys(note["message"] for note in reply.get("notes", ()) if note["code"] != "unverified")
    say(*(f"note: {note}" for note in notes))
    say(f"wrote {out}")


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix not in TRACE_FORMATS:
        raise InvalidInput(f"--out {out}: a trace is written as {', '.join(TRACE_FORMATS)}, not as '{out.suffix}'")
    check_folder("--out", out)
    check_extra(out)
