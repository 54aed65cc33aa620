"""`gatescope report`: what stands out inside a model, in words, numbers and pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatescope.cli import options
from gatescope.cli.asking import InputFile, ModelName, TableOptions, WhereHere, check_folder
from gatescope.cli.command import cli
from gatescope.cli.options import with_options
from gatescope.cli.output import answer, progress, say
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    from gatescope.reporting.of_model import Given
    from gatescope.reporting.report import Report
    from gatescope.tables.sequences import Reading, Sequences
    from gatescope.tables.table import Table

FORMATS = (".html", ".json")


@cli.command()
@with_options
def report(  # noqa: PLR0913 - the options of a command
    model: ModelName,
    input_file: InputFile = None,
    text: Annotated[list[str] | None, typer.Option(help="Text, for a model that reads text; may be repeated.")] = None,
    series: Annotated[
        str | None, typer.Option(metavar="COLUMN,…", help="Columns that units may follow; they are no input.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A column that says what each step is: a class.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Of a model of labels, the true ones: a column, or a .json file, [sequence][step] or [sequence].",
        ),
    ] = None,
    module: Annotated[str | None, typer.Option(help="Which recurrent module; the first by default.")] = None,
    *,
    tables: TableOptions,
    out: Annotated[Path | None, typer.Option(help="Write the report: .html or .json.")] = None,
    where: WhereHere,
) -> None:
    """Say what stands out inside a model, and test it: a page, JSON, or sentences on the terminal."""
    if out is not None:
        if out.suffix not in FORMATS:
            raise InvalidInput(f"--out {out}: a report is written as {' or '.join(FORMATS)}, not as '{out.suffix}'")
        check_folder("--out", out)
    if (input_file is None) == (not text):
        raise InvalidInput("give either --input FILE or --text TEXT")
    reading = tables.reading()
    names = [each.strip() for each in series.split(",") if each.strip()] if series else []
    with progress(f"looking into {model}"):
        asked = Asked(tuple(names), classes, targets, module)
        made = _made(model, input_file or text or [], reading, asked, where)
    if out is not None:
        made.save(out)
        say(f"wrote {out}")
    answer(*made.how_well, *made.sentences, *(made.test_of(place) for place in made.trials))


@dataclass(frozen=True)
class Asked:
    """What is known beside what the model reads: columns of a table; and the module that is looked at."""

    series: tuple[str, ...] = ()
    classes: str | None = None
    targets: str | None = None
    module: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Of labels: those of classes, and of targets where they are no file."""
        return tuple(each for each in (self.classes, None if self.is_file else self.targets) if each)

    @property
    def is_file(self) -> bool:
        """Whether the targets are a file."""
        return self.targets is not None and self.targets.endswith(".json")


def _made(
    name: str,
    source: Path | list[str],
    reading: Reading,
    asked: Asked,
    where: WhereHere,
) -> Report:
    from gatescope.cli.in_process import InProcess
    from gatescope.reporting.of_model import report_on
    from gatescope.server import logs
    from gatescope.server.api import body, query
    from gatescope.server.api.notes import notes_of
    from gatescope.server.api.schema.requests import PredictRequest
    from gatescope.server.api.sequences import tokens_of

    logs.configure("console")
    logs.quiet()
    with InProcess(options.settings(models_dir=where.models, device=where.device), name) as process:
        model, limits = process.model(name), process.limits
        fields, given = _read(source, process.info(name), reading, asked)
        if asked.targets is not None and asked.is_file:
            given = replace(given, labels=_labels(Path(asked.targets)))
        if asked.module is not None:
            fields["module"] = asked.module
        request: PredictRequest = body.validate(fields, PredictRequest, query.expected(model).within(limits))
        if request.horizon is not None:
            raise InvalidInput("a report is about what was read: leave out the horizon, and rows without a target")
        asked_of = query.to_query(request, model, limits)  # before the notes: it refuses what cannot be read
        tokens = tokens_of(request, model)
        notes = [note["message"] for note in notes_of(request, model, tokens)]
        return report_on(model, asked_of, replace(given, tokens=tokens, notes=[*given.notes, *notes]))


def _read(source: Path | list[str], info: Any, reading: Reading, asked: Asked) -> tuple[dict[str, Any], Given]:
    """The predict body, and what is known beside it."""
    from gatescope.reporting.of_model import Given
    from gatescope.tables.files import SUFFIXES
    from gatescope.tables.parts import STDIN
    from gatescope.tables.requests import read_body

    if isinstance(source, list) or (source != STDIN and source.suffix.lower() not in {*SUFFIXES, ".txt"}):
        if asked.series or asked.columns:
            raise InvalidInput(
                "--series, --classes and --targets name columns of a table: give --input a table, .csv for example; "
                "--targets also takes a .json file"
            )
        if isinstance(source, list):
            return {"text": source}, Given()
        return _of_body(read_body(source, info, reading).request)
    if info["input"]["kind"] == "tokens":
        return _of_body(read_body(source, info, reading).request)
    return _of_table(source, info, reading, asked)


def _labels(path: Path) -> list[Any]:
    """Labels of a .json file: [sequence][step], or [sequence]; null where none is known."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"--targets {path} cannot be read: {error}") from error
    rows = read if isinstance(read, list) else [read]
    for each in (one for row in rows for one in (row if isinstance(row, list) else [row])):
        if not (each is None or isinstance(each, str) or type(each) is int):
            raise InvalidInput(
                f"--targets {path}: {json.dumps(each)} is no label; labels are texts, whole numbers or null"
            )
    return rows


def _of_body(fields: dict[str, Any]) -> tuple[dict[str, Any], Given]:
    """Of a predict body: what it says of times, ids and measured values is told."""
    import numpy as np

    from gatescope.reporting.of_model import Given

    kept = {name: value for name, value in fields.items() if name != "outputs"}
    if isinstance(kept.get("inputs"), np.ndarray):
        kept["inputs"] = kept["inputs"].tolist()
    return kept, Given(ids=fields.get("ids"))


def _of_table(source: Path, info: Any, reading: Reading, asked: Asked) -> tuple[dict[str, Any], Given]:
    import sys

    from gatescope.reporting.of_model import Given
    from gatescope.tables.csv_file import read_csv
    from gatescope.tables.files import read_table
    from gatescope.tables.parts import STDIN
    from gatescope.tables.sequences import Wanted, interpret

    table = read_csv(sys.stdin.buffer.read(), "standard input") if source == STDIN else read_table(source)
    wanted = Wanted.of(info)
    _check(table, wanted, [*asked.series, *asked.columns])
    labels: dict[str, list[str]] = {}
    for column in dict.fromkeys(asked.columns):
        table, labels[column] = _coded(table, column)
    extra = tuple(dict.fromkeys(name for name in (*asked.series, *asked.columns) if name not in wanted.outputs))
    sequences = interpret(table, replace(wanted, outputs=(*wanted.outputs, *extra)), reading)
    decoded = {column: _decoded(sequences, column, names) for column, names in labels.items()}
    given = Given(
        series={name: [row.tolist() for row in sequences.observed[name]] for name in asked.series},
        classes=None if asked.classes is None else decoded[asked.classes],
        labels=None if asked.targets is None or asked.is_file else decoded[asked.targets],
        observed={name: sequences.observed[name] for name in wanted.outputs if name in sequences.observed},  # type: ignore[misc]
        ids=sequences.ids,
        times=None if sequences.timestamps is None else [list(map(str, row)) for row in sequences.timestamps],
        notes=[note for note in sequences.notes if not note.startswith("The column '") or "is read as" in note],
    )
    return sequences.request(), given


def _check(table: Table, wanted: Any, columns: list[str]) -> None:
    """Refuse series and classes that are no columns, or that the model reads."""
    for name in columns:
        if name not in table.frame.columns:
            known = ", ".join(f"'{each}'" for each in list(table.frame.columns)[:20])
            raise table.refused(f"there is no column '{name}'; it has {known}")
        if name in wanted.features:
            raise table.refused(f"'{name}' is an input of the model: every unit may follow what it reads", column=name)


def _coded(table: Table, column: str) -> tuple[Table, list[str]]:
    """The table with a number for each class, and the classes; cells without one are empty."""
    import pandas as pd

    cells = table.frame[column].replace("", None)
    codes, names = pd.factorize(cells)
    shown = [None if code < 0 else float(code) for code in codes]
    frame = table.frame.assign(**{column: pd.Series(shown, index=table.frame.index, dtype="float64")})
    return replace(table, frame=frame), [str(name) for name in names]


def _decoded(sequences: Sequences, column: str, labels: list[str]) -> list[list[str | None]]:
    return [
        [None if code != code else labels[int(code)] for code in row]  # noqa: PLR0124 - no class
        for row in sequences.observed[column]
    ]
