"""`gatescope inspect` and `gatescope import`: from a training script's checkpoint to a model that is served."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatescope.cli import greeting, options
from gatescope.cli.command import cli
from gatescope.cli.options import Models
from gatescope.cli.output import answer, progress, show
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    from gatescope.checkpoints.importer import Imported

Checkpoint = Annotated[Path, typer.Argument(help="A .pt, .pth, .ckpt, .bin or .safetensors file.")]
Name = Annotated[str, typer.Option("--name", help="What the model is to be called.")]
Version = Annotated[str | None, typer.Option("--version", help="The version; the next whole number by default.")]
Prefix = Annotated[str | None, typer.Option(help="Where the LSTM is; several, from the bottom up: a,b.")]
Embedding = Annotated[str | None, typer.Option(metavar="PATH|none", help="Where the embedding is.")]
Head = Annotated[str | None, typer.Option(metavar="PATH|none", help="Where the head is; several layers: a,b.")]
Task = Annotated[str | None, typer.Option(help="regression, classification, tagging or next_token.")]
Steps = Annotated[str | None, typer.Option(help="What the head reads: all, last, final, mean or max.")]
Activation = Annotated[str | None, typer.Option(help="Between the head's layers: relu or tanh.")]
Features = Annotated[str | None, typer.Option(metavar="A,B,…", help="The names of the inputs.")]
Outputs = Annotated[str | None, typer.Option(metavar="A,B,…", help="The names of a regression's outputs.")]
Labels = Annotated[str | None, typer.Option(metavar="A,B,…", help="The labels of a classification or a tagging.")]
Characters = Annotated[str | None, typer.Option(help="The vocabulary of characters, in the order of their ids.")]
Vocabulary = Annotated[Path | None, typer.Option(metavar="FILE", help="The vocabulary, one entry a line.")]
Description = Annotated[str | None, typer.Option(help="One line: what it predicts, from what.")]


@cli.command("inspect")
def inspect_checkpoint(
    checkpoint: Checkpoint,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="JSON also on a terminal.")] = False,
) -> None:
    """Show what is inside a checkpoint: a table on a terminal, JSON into a pipe."""
    from gatescope.checkpoints.report import report
    from gatescope.cli import terminal

    with progress(f"reading {checkpoint}"):
        found = report(checkpoint)
    reply = json.dumps(found, ensure_ascii=False).encode(errors="backslashreplace")
    show(reply, lambda _: terminal.checkpoint(found), as_json=as_json)


@cli.command("import")
def import_(  # noqa: PLR0913, PLR0917 - the options of a command
    checkpoint: Checkpoint,
    name: Name,
    models: Models = None,
    version: Version = None,
    prefix: Prefix = None,
    embedding: Embedding = None,
    head: Head = None,
    task: Task = None,
    steps: Steps = None,
    activation: Activation = None,
    features: Features = None,
    outputs: Outputs = None,
    labels: Labels = None,
    characters: Characters = None,
    vocabulary: Vocabulary = None,
    description: Description = None,
) -> None:
    """Make a model of a checkpoint, say what was guessed, and how to ask it."""
    from gatescope.checkpoints.importer import Options, import_checkpoint
    from gatescope.server import logs

    logs.configure("console")
    logs.quiet()
    settings = options.settings(models_dir=models)
    said = Options(
        version=version,
        prefix=_listed(prefix),
        embedding=embedding,
        head=_listed(head),
        task=task,
        steps=steps,
        activation=activation,
        features=_listed(features),
        outputs=_listed(outputs),
        labels=_listed(labels),
        characters=characters,
        vocabulary=_entries(vocabulary),
        description=description,
    )
    try:
        with progress(f"importing {checkpoint}"):
            imported = import_checkpoint(checkpoint, settings.models_dir, name, said, allow_code=settings.allow_code)
    except InvalidInput as error:
        raise _with_flags(error) from None
    url = f"http://127.0.0.1:{settings.port}"
    answer(*_lines(imported, url, models, keyed=bool(settings.api_keys)))


def _listed(given: str | None) -> tuple[str, ...]:
    return () if given is None else tuple(part.strip() for part in given.split(","))


def _entries(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"--vocabulary {file} is not UTF-8: {error}") from None
    return tuple(text.replace("\r\n", "\n").removesuffix("\n").split("\n"))


def _with_flags(error: InvalidInput) -> InvalidInput:
    """The same, with the options under the names that they have here."""
    if not error.places:
        return error
    return InvalidInput("; ".join(f"--{'.'.join(map(str, place.loc))}: {place.message}" for place in error.places))


def _lines(imported: Imported, url: str, models: Path | None, *, keyed: bool) -> Iterator[str]:
    """What was guessed, and commands to try, which work as they stand."""
    yield f"version {imported.version} of '{imported.name}' is in {imported.folder}"
    yield from (f"- {note}" for note in imported.notes)
    folder = [] if models is None else ["--models", str(models)]
    yield f"Ask it here, or serve it ({shlex.join(['gatescope', 'serve', *folder])}) and ask it over HTTP:"
    if source := _source(imported):
        yield "  " + shlex.join(["gatescope", "predict", imported.name, *folder, *source])
    path = f"{url}/v1/models/{imported.name}/versions/{imported.version}/predict"
    body = json.dumps(imported.request)
    if len(body) > greeting.LONGEST and _example(imported).exists():
        body = f"@{_example(imported)}"
    key = ["-H", "X-API-Key: YOUR-KEY"] if keyed else []
    yield "  " + shlex.join(["curl", "-s", *key, path, "-H", "Content-Type: application/json", "-d", body])


def _source(imported: Imported) -> list[str]:
    """Where `gatescope predict` finds the request."""
    if "text" in imported.request:
        return ["--text", imported.request["text"]]
    return ["--input", str(_example(imported))] if _example(imported).exists() else []


def _example(imported: Imported) -> Path:
    from gatescope.checkpoints.structure.infer_manifest import EXAMPLE_FILE

    return imported.folder / EXAMPLE_FILE
