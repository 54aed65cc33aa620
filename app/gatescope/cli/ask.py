"""`gatescope predict` and `gatescope trace`: a model asked from a terminal or a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gatescope import dataset, plot, tables
from gatescope.cli import options, terminal
from gatescope.cli.command import cli
from gatescope.cli.connection import Connection
from gatescope.cli.options import Device, DeviceOption, Models
from gatescope.cli.output import console, progress, say, show
from gatescope.client.body import JSON
from gatescope.client.call import of_model
from gatescope.errors import InvalidInput
from gatescope.server import logs

ModelName = Annotated[str, typer.Argument(help="The model's name.")]
InputFile = Annotated[Path | None, typer.Option("--input", help="A .csv, .npy or .json file with the sequence.")]
TextOption = Annotated[str | None, typer.Option(help="Text, for a model that reads text.")]
Horizon = Annotated[int | None, typer.Option(min=1, help="Run on for this many steps.")]
Url = Annotated[str | None, typer.Option(help="Ask a running server instead of computing here.")]
Key = Annotated[str | None, typer.Option(envvar="GATESCOPE_KEY", help="An API key of that server.")]

PLOT_FORMATS = (".png", ".svg", ".pdf")
OUT_FORMATS = {
    ".json": JSON,
    ".safetensors": "application/vnd.safetensors",
    ".npz": "application/x-npz",
    ".nc": "application/x-npz",
}


@cli.command()
def predict(  # noqa: PLR0913, PLR0917 - the options of a command
    model: ModelName,
    input_file: InputFile = None,
    text: TextOption = None,
    horizon: Horizon = None,
    models: Models = None,
    device: DeviceOption = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Predict for a file or a text: a table on a terminal, JSON into a pipe."""
    with _connected(model, models, device, url, key) as (connection, info):
        body = _body(info, input_file, text, horizon)
        reply = connection.post(of_model(model, None, "predict"), body)
    show(reply, lambda: terminal.prediction(orjson.loads(reply), info))


@cli.command()
def trace(  # noqa: PLR0913, PLR0917 - the options of a command
    model: ModelName,
    input_file: InputFile = None,
    text: TextOption = None,
    horizon: Horizon = None,
    out: Annotated[Path | None, typer.Option(help="Write the trace: .safetensors, .npz, .nc or .json.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw the trace: .png, .svg or .pdf.")] = None,
    models: Models = None,
    device: DeviceOption = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Trace every gate over a file or a text: a picture on a terminal, JSON into a pipe, or files."""
    _check_out(out)
    _check_plot(plot_file)
    with _connected(model, models, device, url, key) as (connection, info):
        body, path = _body(info, input_file, text, horizon), of_model(model, None, "trace")
        if out is not None:
            _write(connection.post(path, body, OUT_FORMATS[out.suffix]), out)
        if out is not None and plot_file is None:
            return
        reply = connection.post(path, body)
    if plot_file is None:
        show(reply, lambda: terminal.trace(orjson.loads(reply), console))
        return
    plot.save(orjson.loads(reply), plot_file)
    say(f"wrote {plot_file}")


@contextmanager
def _connected(
    model: str, models: Path | None, device: Device | None, url: str | None, key: str | None
) -> Iterator[tuple[Connection, Any]]:
    """A connection and the model's ModelInfo, with a spinner while it takes long."""
    logs.configure("console")
    logs.quiet()
    settings = options.settings(models_dir=models, device=device)
    with progress(f"asking {model}"), Connection(url, settings, key) as connection:
        yield connection, connection.get(of_model(model))


def _body(info: Any, input_file: Path | None, text: str | None, horizon: int | None) -> dict[str, Any]:
    if (input_file is None) == (text is None):
        raise InvalidInput("give either --input FILE or --text TEXT")
    if text is not None and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput("--text is not valid UTF-8")
    names = (info["input"] or {}).get("feature_names")
    body: dict[str, Any] = {"text": text} if input_file is None else tables.read_request(input_file, names)
    return body if horizon is None else body | {"horizon": horizon}


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix not in OUT_FORMATS:
        raise InvalidInput(f"--out {out}: a trace is written as {', '.join(OUT_FORMATS)}, not as '{out.suffix}'")
    _check_folder("--out", out)
    if out.suffix == ".nc":
        _need("h5netcdf", "netcdf")


def _check_plot(file: Path | None) -> None:
    if file is None:
        return
    if file.suffix not in PLOT_FORMATS:
        raise InvalidInput(f"--plot {file}: a picture is written as {', '.join(PLOT_FORMATS)}, not as '{file.suffix}'")
    _check_folder("--plot", file)
    _need("matplotlib", "plot")


def _check_folder(option: str, file: Path) -> None:
    """Before an hour of computing, not after it."""
    if not file.parent.is_dir():
        raise InvalidInput(f"{option} {file}: there is no folder '{file.parent}'")
    if file.is_dir():
        raise InvalidInput(f"{option} {file}: this is a folder")


def _write(content: bytes, out: Path) -> None:
    if out.suffix == ".nc":
        dataset.write(content, out)
    else:
        out.write_bytes(content)
    say(f"wrote {out}")


def _need(module: str, extra: str) -> None:
    try:
        __import__(module)
    except ImportError:
        raise InvalidInput(f"this needs the extra '{extra}': pip install 'gatescope[{extra}]'") from None
