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
    from gatescope.checkpoints.structure.interpret import AmbiguousSample

Checkpoint = Annotated[
    Path,
    typer.Argument(help="A .pt, .pth, .ckpt, .bin, .safetensors, .keras or .h5 file, an index, or a run's folder."),
]
Name = Annotated[str, typer.Option("--name", help="What the model is to be called.")]
Version = Annotated[str | None, typer.Option("--version", help="The version; the next whole number by default.")]
Sample = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Inputs and what the training code computed of them: .npz, .json, .safetensors."),
]
Tolerance = Annotated[float, typer.Option(help="How far predictions may be from the sample, of its largest value.")]
Layers = Annotated[
    str | None, typer.Option(metavar="A,B,…", help="All layers in order: embedding,lstm,last,fc,softmax.")
]
Prefix = Annotated[str | None, typer.Option(help="Where the LSTM is; several, from the bottom up: a,b.")]
Join = Annotated[
    str | None, typer.Option(help="How several LSTMs are joined: stacked, residual, parallel, parallel=add.")
]
Embedding = Annotated[str | None, typer.Option(metavar="PATH|none", help="Where the embedding is.")]
Head = Annotated[str | None, typer.Option(metavar="PATH|none", help="Where the head is; several layers: a,b.")]
Ignore = Annotated[str | None, typer.Option(metavar="A,B,…", help="Weights that no prediction depends on.")]
Task = Annotated[
    str | None,
    typer.Option(help="regression, quantile, classification, tagging, binary, multi_label or next_token."),
]
Steps = Annotated[str | None, typer.Option(help="What the head reads: all, last, final, first, mean, max or sum.")]
Activation = Annotated[str | None, typer.Option(help="Between the head's layers: relu, tanh, … or none.")]
OutputActivation = Annotated[str | None, typer.Option(help="Behind the last layer: softplus, sigmoid, … or none.")]
Features = Annotated[str | None, typer.Option(metavar="A,B,…", help="The names of the inputs.")]
Static = Annotated[str | None, typer.Option(metavar="A,B,…", help="The names of inputs that a sequence has once.")]
Scaler = Annotated[
    Path | None, typer.Option(metavar="FILE", help="How inputs and outputs were scaled: .json, .yml or .npz.")
]
Outputs = Annotated[str | None, typer.Option(metavar="A,B,…", help="The names of a regression's outputs.")]
Predicts = Annotated[
    str | None, typer.Option(metavar="same_step|next_step", help="Of which step the prediction at a step is.")
]
Labels = Annotated[str | None, typer.Option(metavar="A,B,…", help="The labels, the positive one of two second.")]
Quantiles = Annotated[str | None, typer.Option(metavar="0.1,0.5,…", help="Which quantiles each output has.")]
Characters = Annotated[str | None, typer.Option(help="The vocabulary of characters, in the order of their ids.")]
Vocabulary = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The vocabulary: one entry a line, or JSON, a list or token: id.")
]
Tokens = Annotated[str | None, typer.Option(help="Whether the vocabulary's entries are characters or words.")]
Lowercase = Annotated[str | None, typer.Option(metavar="true|false", help="Whether a text is lower-cased first.")]
Description = Annotated[str | None, typer.Option(help="One line: what it predicts, from what.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the model, or the version, that is there.")]


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
def import_(  # noqa: PLR0913 - the options of a command
    checkpoint: Checkpoint,
    name: Name,
    *,
    models: Models = None,
    version: Version = None,
    sample: Sample = None,
    tolerance: Tolerance = 1e-5,
    layers: Layers = None,
    prefix: Prefix = None,
    join: Join = None,
    embedding: Embedding = None,
    head: Head = None,
    ignore: Ignore = None,
    task: Task = None,
    steps: Steps = None,
    activation: Activation = None,
    output_activation: OutputActivation = None,
    features: Features = None,
    static: Static = None,
    scaler: Scaler = None,
    outputs: Outputs = None,
    predicts: Predicts = None,
    labels: Labels = None,
    quantiles: Quantiles = None,
    characters: Characters = None,
    vocabulary: Vocabulary = None,
    tokens: Tokens = None,
    lowercase: Lowercase = None,
    description: Description = None,
    force: Force = False,
) -> None:
    """Make a model of a checkpoint, say what was found, guessed or verified, and how to ask it."""
    from gatescope.checkpoints.companions.scaler import read_scaler
    from gatescope.checkpoints.importer import Options, import_checkpoint
    from gatescope.checkpoints.structure import notation
    from gatescope.checkpoints.structure.interpret import AmbiguousSample
    from gatescope.server import logs

    logs.configure("console")
    logs.quiet()
    settings = options.settings(models_dir=models)
    try:
        said = Options(
            version=version,
            layers=notation.split(layers or ""),
            prefix=_listed(prefix),
            join=join,
            embedding=embedding,
            head=_listed(head),
            ignore=_listed(ignore),
            task=task,
            steps=steps,
            activation=activation,
            output_activation=output_activation,
            features=_listed(features),
            static=_listed(static),
            scaler=None if scaler is None else read_scaler(scaler),
            outputs=_listed(outputs),
            predicts=predicts,
            labels=_listed(labels),
            quantiles=_listed(quantiles),
            characters=characters,
            vocabulary=_entries(vocabulary),
            tokens=tokens,
            lowercase=lowercase,
            description=description,
        )
        with progress(f"importing {checkpoint}"):
            imported = import_checkpoint(
                checkpoint,
                settings.models_dir,
                name,
                said,
                sample=sample,
                tolerance=tolerance,
                allow_code=settings.allow_code,
                force=force,
            )
    except AmbiguousSample as error:
        raise _with_inputs(error, name) from None
    except InvalidInput as error:
        raise _with_flags(error) from None
    url = f"http://127.0.0.1:{settings.port}"
    answer(*_lines(imported, url, models, keyed=bool(settings.api_keys)))


def _listed(given: str | None) -> tuple[str, ...]:
    return () if given is None else tuple(part.strip() for part in given.split(","))


def _entries(file: Path | None) -> tuple[str, ...]:
    from gatescope.checkpoints.companions.vocabulary import read_vocabulary

    return () if file is None else read_vocabulary(file).entries


def _with_inputs(error: AmbiguousSample, name: str) -> InvalidInput:
    """The same, with inputs that tell the readings apart in a file to go on with."""
    if error.inputs is None:
        return _with_flags(error)
    import numpy as np

    file = Path(f"{name}-inputs.npz")
    np.savez(file, inputs=error.inputs)
    return InvalidInput(
        f"{_with_flags(error)}: {file} has such inputs; save what the training code computes of them as `expected` "
        "beside them"
    )


def _with_flags(error: InvalidInput) -> InvalidInput:
    """The same, with the options under the names that they have here."""
    if not error.places:
        return error
    flags = [f"--{'.'.join(map(str, place.loc)).replace('_', '-')}: {place.message}" for place in error.places]
    return InvalidInput("; ".join(flags))


def _lines(imported: Imported, url: str, models: Path | None, *, keyed: bool) -> Iterator[str]:
    """What was guessed, and commands to try, which work as they stand."""
    yield f"version {imported.version} of '{imported.name}' is in {imported.folder}"
    yield from (f"- {note}" for note in imported.notes)
    if imported.verified is not None and imported.verified.by == "graph":
        yield "Its predictions are the exported graph's; --sample FILE would compare them with the training code's."
    elif imported.verified is not None:
        error = f"{imported.verified.max_error:.2g}"
        yield f"Its predictions are verified: they are the sample's, to {error} of its largest value."
    elif imported.predicts:
        yield "Its predictions are NOT VERIFIED: give --sample FILE (docs/models.md has the three lines that make one)."
    folder = [] if models is None else ["--models", str(models)]
    yield f"Ask it here, or serve it ({shlex.join(['gatescope', 'serve', *folder])}) and ask it over HTTP:"
    if source := _source(imported):
        yield "  " + shlex.join(["gatescope", "predict", imported.name, *folder, *source])
    path = f"{url}/v1/models/{imported.name}/versions/{imported.version}/predict"
    body = json.dumps(imported.request)
    if len(body) > greeting.LONGEST and not _example(imported).exists():
        return
    if len(body) > greeting.LONGEST:
        body = f"@{_example(imported)}"
    key = ["-H", "X-API-Key: YOUR-KEY"] if keyed else []
    yield "  " + shlex.join(["curl", "-s", *key, path, "-H", "Content-Type: application/json", "-d", body])


def _source(imported: Imported) -> list[str]:
    """Where `gatescope predict` finds the request."""
    if isinstance(text := imported.request.get("text"), str):
        return ["--text", text]
    from gatescope.pipeline.sample import FILE

    sample = imported.folder / imported.version / FILE
    file = sample if sample.exists() else _example(imported)
    return ["--input", str(file)] if file.exists() else []


def _example(imported: Imported) -> Path:
    from gatescope.checkpoints.structure.infer_manifest import EXAMPLE_FILE

    return imported.folder / EXAMPLE_FILE
