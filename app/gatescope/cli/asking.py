"""What the commands that ask a model share: their options, the connection, and how a table is read."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from gatescope.cli import options
from gatescope.cli.options import Device
from gatescope.cli.output import progress, say
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    from gatescope.cli.connection import Connection
    from gatescope.tables.sequences import Reading

Read = TypeVar("Read")


def models_beginning(context: typer.Context, incomplete: str) -> list[str]:
    """The models of the folder whose names begin so, for a shell; nothing is imported or loaded for it."""
    folder = Path(context.params.get("models") or os.environ.get("GATESCOPE_MODELS_DIR") or "models")
    return sorted(file.parent.name for file in folder.glob(f"{glob.escape(incomplete)}*/model.toml"))


ModelName = Annotated[str, typer.Argument(help="The model's name.", autocompletion=models_beginning)]
InputFile = Annotated[
    Path | None,
    typer.Option("--input", help="A table (.csv, .parquet, .nc, - for standard input), .npy, .npz or .json file."),
]
InputFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--input",
        help="A table (.csv, .parquet, .nc, - for standard input), .npy, .npz or .json file; of tables several, or a "
        "pattern in quotes: 'data/*.csv'.",
    ),
]
MapOption = Annotated[
    str | None, typer.Option("--map", metavar="NAME=COLUMN,…", help="Which columns of the table are which features.")
]
TimesOption = Annotated[str | None, typer.Option("--timestamps", metavar="COLUMN", help="The column of times.")]
IdOption = Annotated[
    str | None, typer.Option("--id", metavar="COLUMN", help="The column that tells sequences apart, one each.")
]
FillOption = Annotated[
    str | None,
    typer.Option("--fill", metavar="NAME=RULE,…", help="How gaps are filled: hold, interpolate or a number."),
]
StaticOption = Annotated[
    Path | None, typer.Option("--static", help="A table of static features, a row for each id; .csv or .parquet.")
]
DayFirst = Annotated[
    bool | None, typer.Option("--day-first/--month-first", help="What comes first in dates such as 03/04/2020.")
]
Url = Annotated[str | None, typer.Option(help="Ask a running server instead of computing here.")]
Key = Annotated[str | None, typer.Option(envvar="GATESCOPE_KEY", help="An API key of that server.")]

TABLES = (".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather")
"""How tables are written."""
TABLE_FORMATS = (*TABLES, ".json")


PLOT_FORMATS = (".png", ".svg", ".pdf")


@contextmanager
def connected(
    model: str, models: Path | None, device: Device | None, url: str | None, key: str | None, *, is_shown: bool = True
) -> Iterator[tuple[Connection, Any]]:
    """A connection and the model's ModelInfo, with a spinner while it takes long, if that is to be shown."""
    from gatescope.cli.connection import Connection

    settings = None
    if url is None:
        from gatescope.server import logs

        logs.configure("console")
        logs.quiet()
        settings = options.settings(models_dir=models, device=device)
    with (
        progress(f"asking {model}") if is_shown else nullcontext(),
        Connection(url, settings, key, model) as connection,
    ):
        yield connection, connection.get(model_path(model))


def model_path(model: str) -> str:
    """Of its routes."""
    return f"/v1/models/{quote(model, safe='', errors='surrogateescape')}"


def table_reading(
    mapping: str | None,
    timestamps: str | None,
    id_column: str | None,
    fill: str | None,
    static: Path | None,
    *,
    day_first: bool | None,
) -> Reading:
    """What the options say about a table.

    Raises:
        InvalidInput: `--map` or `--fill` is not what it must be, or `--static` no table.
    """
    from gatescope.tables.files import read_table
    from gatescope.tables.pairs import fill_of, mapping_of
    from gatescope.tables.sequences import Reading

    return Reading(
        _option("--map", mapping, mapping_of),
        timestamps,
        id_column,
        day_first,
        _option("--fill", fill, fill_of),
        None if static is None else read_table(static),
    )


def _option(name: str, text: str | None, read: Callable[[str | None], Read]) -> Read:
    try:
        return read(text)
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}") from None


def warn_unverified(info: Any) -> None:
    """Say that what the model predicts was never compared with what the training code predicts."""
    predicts = (info["output"] or {}).get("kind") != "output"
    if predicts and "verified" in info and info["verified"] is None:
        say(
            f"the predictions of '{info['name']}' are not verified: nobody has compared them with numbers of the "
            "training code. Import the model with --sample to have that done"
        )


def check_folder(option: str, file: Path) -> None:
    """Before an hour of computing, not after it."""
    if not file.parent.is_dir():
        raise InvalidInput(f"{option} {file}: there is no folder '{file.parent}'")
    if file.is_dir():
        raise InvalidInput(f"{option} {file}: this is a folder; it is not overwritten")


def is_folder(out: Path | None, files: int) -> bool:
    """Whether answers about so many files go into a folder."""
    if out is None or out.suffix == ".zarr":
        return False
    return out.is_dir() or (not out.suffix and files > 1)


def need_extra(module: str, extra: str) -> None:
    """Refuse where a module is not installed, and name the extra that brings it."""
    if find_spec(module) is None:
        raise InvalidInput(f"this needs the extra '{extra}': pip install 'gatescope[{extra}]'")


def check_table_out(out: Path | None, also: tuple[str, ...] = ()) -> None:
    """Refuse a table that could not be written, before it is computed."""
    if out is None:
        return
    if out.suffix not in {*TABLE_FORMATS, *also}:
        known = ", ".join((*TABLE_FORMATS, *also))
        raise InvalidInput(f"--out {out}: a table is written as {known}, not as '{out.suffix}'")
    check_folder("--out", out)
    need_extra("pandas", "tables")


def check_plot(file: Path | None) -> None:
    """Refuse a picture that could not be written, before it is computed."""
    if file is None:
        return
    if file.suffix not in PLOT_FORMATS:
        raise InvalidInput(f"--plot {file}: a picture is written as {', '.join(PLOT_FORMATS)}, not as '{file.suffix}'")
    check_folder("--plot", file)
    need_extra("matplotlib", "plot")
