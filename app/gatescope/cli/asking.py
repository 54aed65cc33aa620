"""What the commands that ask a model share: their options, the connection, and how a table is read."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from gatescope.cli import options
from gatescope.cli.options import DeviceOption, Models, Options
from gatescope.cli.output import progress, say
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    from gatescope.cli.connection import Connection
    from gatescope.tables.requests import Body
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
TextOption = Annotated[str | None, typer.Option(help="Text, for a model that reads text.")]
Horizon = Annotated[int | None, typer.Option(min=1, help="Run on for this many steps.")]
Url = Annotated[str | None, typer.Option(help="Ask a running server instead of computing here.")]
Key = Annotated[str | None, typer.Option(envvar="GATESCOPE_KEY", help="An API key of that server.")]

TABLES = (".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather")
"""How tables are written."""
TABLE_FORMATS = (*TABLES, ".json")


PLOT_FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class TableOptions(Options):
    """How a table is read."""

    mapping: Annotated[
        str | None,
        typer.Option("--map", metavar="NAME=COLUMN,…", help="Which columns of the table are which features."),
    ] = None
    timestamps: Annotated[str | None, typer.Option("--timestamps", metavar="COLUMN", help="The column of times.")] = (
        None
    )
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="The column that tells sequences apart, one each.")
    ] = None
    fill: Annotated[
        str | None,
        typer.Option("--fill", metavar="NAME=RULE,…", help="How gaps are filled: hold, interpolate or a number."),
    ] = None
    static: Annotated[
        Path | None,
        typer.Option("--static", help="A table of static features, a row for each id; .csv or .parquet."),
    ] = None
    day_first: Annotated[
        bool | None, typer.Option("--day-first/--month-first", help="What comes first in dates such as 03/04/2020.")
    ] = None

    def reading(self) -> Reading:
        """What they say.

        Raises:
            InvalidInput: `--map` or `--fill` is not what it must be, or `--static` no table.
        """
        from gatescope.tables.files import read_table
        from gatescope.tables.pairs import fill_of, mapping_of
        from gatescope.tables.sequences import Reading

        return Reading(
            _option("--map", self.mapping, mapping_of),
            self.timestamps,
            self.id_column,
            self.day_first,
            _option("--fill", self.fill, fill_of),
            None if self.static is None else read_table(self.static),
        )


@dataclass(frozen=True)
class InputOptions(Options):
    """What the model reads."""

    input_file: InputFile = None
    text: TextOption = None
    horizon: Horizon = None

    def read(self, info: Any, reading: Reading) -> Body:
        """The predict body of a file or a text; what was found in a table is said.

        Raises:
            InvalidInput: neither or both are given, or one cannot be read for this model.
        """
        if (self.input_file is None) == (self.text is None):
            raise InvalidInput("give either --input FILE or --text TEXT")
        if self.text is not None and any("\ud800" <= character <= "\udfff" for character in self.text):
            raise InvalidInput("--text is not valid UTF-8")
        from gatescope.tables.requests import Body, read_body

        if self.input_file is None:
            body = Body({"text": self.text})
        elif info["input"] is None:
            raise InvalidInput(f"model '{info['name']}' is {info['state']}: {info['reason']}")
        else:
            body = read_body(self.input_file, info, reading)
            for note in body.sequences.notes if body.sequences is not None else ():
                say(f"{self.input_file}: {note}")
        if self.horizon is None:
            return body
        if body.sequences is not None and body.sequences.horizon not in {0, self.horizon}:
            raise InvalidInput(
                f"--horizon {self.horizon}: the table has {body.sequences.horizon} rows without a target at its end, "
                "which are the further steps; leave the option out"
            )
        return body._replace(request=body.request | {"horizon": self.horizon})


@dataclass(frozen=True)
class ScopeOptions(Options):
    """Which part of the recurrent module is looked at."""

    layer: Annotated[list[int] | None, typer.Option(help="Only this layer; may be repeated.")] = None
    unit: Annotated[list[int] | None, typer.Option(help="Only this unit; may be repeated.")] = None

    @property
    def request(self) -> dict[str, list[int]]:
        """The fields of a request that are stated."""
        return {name: value for name, value in (("layers", self.layer), ("units", self.unit)) if value}


@dataclass(frozen=True)
class WhereHere(Options):
    """Where the models are, and where they compute."""

    models: Models = None
    device: DeviceOption = None


@dataclass(frozen=True)
class Where(WhereHere):
    """The same, or a server that is asked."""

    url: Url = None
    key: Key = None

    @contextmanager
    def connected(self, model: str, *, is_shown: bool = True) -> Iterator[tuple[Connection, Any]]:
        """A connection and the model's ModelInfo, with a spinner while it takes long, if that is to be shown."""
        from gatescope.cli.connection import Connection

        settings = None
        if self.url is None:
            from gatescope.server import logs

            logs.configure("console")
            logs.quiet()
            settings = options.settings(models_dir=self.models, device=self.device)
        with (
            progress(f"asking {model}") if is_shown else nullcontext(),
            Connection(self.url, settings, self.key, model) as connection,
        ):
            yield connection, connection.get(model_path(model))


def model_path(model: str) -> str:
    """Of its routes."""
    return f"/v1/models/{quote(model, safe='', errors='surrogateescape')}"


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
