"""The command `gatescope`: serve models, and ask them from a terminal or a script."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import quote

import orjson
import structlog
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app import dataset, greeting, logs, plot, sequences, terminal
from app.connection import JSON, Connection
from app.errors import AppError, InvalidInput
from app.main import create_app
from app.server import Server, listen
from app.settings import Settings

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serve trained nn.LSTM models and look inside them.",
)
console = Console()
log = structlog.get_logger(__name__)

Device = Literal["auto", "cpu", "cuda"]
Models = Annotated[Path | None, typer.Option("--models", help="The folder of models.")]
DeviceOption = Annotated[Device | None, typer.Option(help="Where the models compute.")]
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


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if asked:
        sys.stdout.write(f"gatescope {version_of('gatescope')}\n")
        raise typer.Exit


@cli.callback()
def gatescope(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Serve trained nn.LSTM models and look inside them."""


@cli.command()
def serve(
    models: Models = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on.")] = None,
    device: DeviceOption = None,
) -> None:
    """Serve the models over HTTP until interrupted."""
    settings = _settings(models_dir=models, host=host, port=port, device=device)
    logs.configure(settings.log_format)
    app = create_app(settings)
    engine, keyed = app.state.context.engine, bool(settings.api_keys)
    sockets = listen(settings.host, settings.port)
    if not engine.entries():
        log.warning("there is no model in the folder of models", folder=str(settings.models_dir))
    server = Server(app, settings, lambda url: _say(*greeting.lines(url, engine.entries(), keyed=keyed)))
    with suppress(KeyboardInterrupt):
        server.run(sockets)
    if not server.started:
        raise typer.Exit(1)


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
        reply = connection.post(f"{_path(model)}/predict", body)
    _print(reply, lambda: terminal.prediction(orjson.loads(reply), info))


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
        body, path = _body(info, input_file, text, horizon), f"{_path(model)}/trace"
        if out is not None:
            _write(connection.post(path, body, OUT_FORMATS[out.suffix]), out)
        if out is not None and plot_file is None:
            return
        reply = connection.post(path, body)
    if plot_file is None:
        _print(reply, lambda: terminal.trace(orjson.loads(reply), console))
        return
    plot.save(orjson.loads(reply), plot_file)
    _say(f"wrote {plot_file}")


def main() -> None:
    """Run the command; an error that we foresaw is one line and exit status 1."""
    try:
        cli()
    except AppError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _settings(**given: object) -> Settings:
    """The environment's settings, with what was given on the command line."""
    flags = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**flags)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        source = f"--{name}" if name in flags else f"GATESCOPE_{name.upper()}"
        raise InvalidInput(f"{source}: {first['msg']}, not {first['input']!r}") from None


@contextmanager
def _connected(
    model: str, models: Path | None, device: Device | None, url: str | None, key: str | None
) -> Iterator[tuple[Connection, Any]]:
    """A connection and the model's ModelInfo, with a spinner while it takes long."""
    logs.configure("console")
    logs.quiet()
    settings = _settings(models_dir=models, device=device)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        progress.add_task(f"asking {model}")
        with Connection(url, settings, key) as connection:
            yield connection, connection.get(_path(model))


def _path(model: str) -> str:
    return f"/v1/models/{quote(model, safe='', errors='surrogateescape')}"


def _body(info: Any, input_file: Path | None, text: str | None, horizon: int | None) -> dict[str, Any]:
    if (input_file is None) == (text is None):
        raise InvalidInput("give either --input FILE or --text TEXT")
    if text is not None and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput("--text is not valid UTF-8")
    names = (info["input"] or {}).get("feature_names")
    body: dict[str, Any] = {"text": text} if input_file is None else sequences.read_request(input_file, names)
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
    _say(f"wrote {out}")


def _need(module: str, extra: str) -> None:
    try:
        __import__(module)
    except ImportError:
        raise InvalidInput(f"this needs the extra '{extra}': pip install 'gatescope[{extra}]'") from None


def _print(reply: bytes, render: Callable[[], Any]) -> None:
    if sys.stdout.isatty():
        console.print(render())
    else:
        sys.stdout.write(reply.decode() + "\n")


def _say(*lines: str) -> None:
    """To standard error, so that a pipe gets only the answer."""
    sys.stderr.writelines(f"{line}\n" for line in lines)


def _fail(message: str) -> NoReturn:
    _say(f"gatescope: {message}")
    sys.exit(1)
