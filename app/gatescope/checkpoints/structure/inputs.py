"""What a checkpoint's model is asked with: features or tokens, how they are scaled or split, and the sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gatescope.checkpoints.companions import scaler as scalers
from gatescope.checkpoints.companions.hints import Hints
from gatescope.checkpoints.companions.scaling import Affine
from gatescope.checkpoints.companions.scaling import Scaling as Stated
from gatescope.checkpoints.companions.tokens import Kind, filler, is_lowercase, kind_of
from gatescope.checkpoints.companions.vocabulary import MOST_SPARE, find_labels, find_vocabulary
from gatescope.checkpoints.given_sample import GivenSample
from gatescope.checkpoints.structure.arrange import Arrangement, Arranger, refuse
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.interpret import width_of
from gatescope.checkpoints.structure.kinds import Conv1d, Embedding, Linear, Norm, Part
from gatescope.checkpoints.structure.options import Options, given
from gatescope.checkpoints.structure.questions import Asked, Scaling
from gatescope.pipeline.vocabulary import Vocabulary

VOCABULARY_FILE = "vocabulary.txt"


@dataclass(frozen=True)
class Inputs:
    """What a model is asked with."""

    asked: Asked
    tokens: dict[str, Any] | None
    """[input] of the manifest of a model of tokens."""
    entries: tuple[str, ...]
    """Of the vocabulary's file, where there is one."""
    notes: tuple[str, ...]
    width: int
    """How many numbers of a time step come in; of a model of tokens, how many ids there are."""
    features: tuple[str, ...] = ()
    """What they are called."""


def inputs_of(contents: Contents, options: Options, beside: Mapping[str, Any], sample: GivenSample | None) -> Inputs:
    """What the options state, the checkpoint holds and the weights show.

    Raises:
        InvalidInput: an option does not fit the weights.
    """
    first, width = _first(contents, options, sample)
    if isinstance(first, Embedding) or _says_tokens(options):
        rows = first.num_embeddings if isinstance(first, Embedding) else width
        owner = "the embedding" if isinstance(first, Embedding) else "the LSTM's one-hot input"
        return inputs_for(options, beside, sample, rows=rows, owner=owner)
    return inputs_for(options, beside, sample, width=width)


def inputs_for(
    options: Options,
    beside: Mapping[str, Any],
    sample: GivenSample | None,
    *,
    rows: int | None = None,
    width: int = 0,
    owner: str = "the embedding",
) -> Inputs:
    """The same for a model of which it is known what it reads.

    Args:
        options: what is stated.
        beside: plain data beside the weights.
        sample: inputs, and what the training code computed of them.
        rows: of a model of tokens: how many ids there are.
        width: of a model of features: how many numbers of a step come in, static ones with them.
        owner: what has so many rows, for messages.

    Raises:
        InvalidInput: an option does not fit.
    """
    scaler = _scaler(options)
    if rows is not None:
        return _token_inputs(options, beside, sample, scaler, rows, owner)
    count = width - len(options.static)
    stated = None if scaler is None else scaler.inputs
    others = options.outputs
    if not options.features and stated is not None and stated.names is not None:
        names = tuple(name for name in stated.names if name not in others)
        options = replace(options, features=names if len(names) == count else ())
    names = options.features or tuple(f"feature_{index}" for index in range(count))
    asked = Asked(
        scaler=None if stated is None else _arrays(stated.resolve(names, others)),
        static_scaler=_scaling(None if scaler is None else scaler.static, options.static),
        output_scaler=_output_scaling(scaler, options),
        sample=sample,
    )
    return Inputs(asked, None, (), () if scaler is None else scaler.notes, count, names)


def _token_inputs(
    options: Options,
    beside: Mapping[str, Any],
    sample: GivenSample | None,
    scaler: scalers.ScalerFile | None,
    rows: int,
    owner: str,
) -> Inputs:
    for useless in given(options, ("features", "static")):
        refuse(useless, "the model reads tokens: it has no features")
    if scaler is not None and (scaler.inputs or scaler.static):
        refuse("scaler", "is about inputs, but the model reads tokens; one of the outputs alone can be given")
    tokens, entries, notes = _tokens(options, beside, rows, owner)
    asked = Asked(rows, _vocabulary(tokens, entries), sample=sample, output_scaler=_output_scaling(scaler, options))
    return Inputs(asked, tokens, entries, notes, rows)


def with_hints(contents: Contents, options: Options, hints: Hints) -> tuple[Options, tuple[str, ...]]:
    """The options with what configurations beside the weights say, where nothing is stated and it fits the weights."""
    if options.layers or hints == Hints():
        return options, ()
    arrangement = Arranger(contents, options).arrangements()[0]
    spec, width, notes = arrangement.lstms[0].spec, width_of(arrangement), list[str]()
    rows = None if arrangement.embedding is None else arrangement.embedding.num_embeddings
    wanted = {
        "features": None if rows else _width((*arrangement.before, *arrangement.lstms)[0]) - len(options.static),
        "outputs": width,
        "labels": 2 if width == 1 else width,
        "vocabulary": rows,
    }
    for name, count in wanted.items():
        said = getattr(hints, name)
        if said and len(said) == count and not getattr(options, name):
            options = replace(options, **{name: said})
            notes.append(f"{name.capitalize()}: as the configuration beside the weights has them.")
    if hints.task is not None and options.task is None and arrangement.behind:
        options = replace(options, task=hints.task)
        notes.append(f"Task: {hints.task}, as the configuration says (--task).")
    if hints.lowercase is not None and options.lowercase is None:
        options = replace(options, lowercase=str(hints.lowercase).lower())
    for name in ("hidden_size", "num_layers", "bidirectional"):
        said = getattr(hints, name)
        if said is not None and said != getattr(spec, name) and len(arrangement.lstms) == 1:
            notes.append(f"The configuration says {name} = {said}, but the weights have {getattr(spec, name)}.")
    return options, tuple(notes)


def with_labels(contents: Contents, options: Options, beside: Mapping[str, Any]) -> tuple[Options, tuple[str, ...]]:
    """The options with the labels that the checkpoint holds, where none are stated and there are as many as values."""
    if options.labels or options.outputs or options.layers or options.task in {"regression", "quantile", "next_token"}:
        return options, ()
    arrangement = Arranger(contents, options).arrangements()[0]
    if not arrangement.behind:
        return options, ()
    width = width_of(arrangement)
    found = find_labels(beside, 2 if width == 1 else width)
    if found.entries is None:
        return options, found.notes
    note = f"Labels: {found.source} in the checkpoint (--labels a,b,… for others)."
    return replace(options, labels=found.entries), (note, *found.notes)


def _first(contents: Contents, options: Options, sample: GivenSample | None) -> tuple[Part, int]:
    """The first layer that reads the inputs, and how many numbers it takes; of several that may, one that fits."""
    if options.layers:
        named = {part.path: part for part in contents.parts}
        words = [token.partition("=")[0] for token in options.layers]
        paths = [
            path
            for word in words
            for path in word.replace("residual(", "").replace("parallel(", "").strip(")").split("|")
        ]
        first = next((named[path] for path in paths if path in named), None)
        if first is None:
            refuse("layers", "names no layer of the checkpoint")
        return first, _width(first)
    found = [_reader(each) for each in Arranger(contents, options).arrangements()]
    shape = () if sample is None or sample.inputs is None else np.shape(sample.inputs[0])[-1:]
    given = sum(shape) + len(options.static)
    fitting = [(part, given) for part, width in found if shape and _may_take(part, width, given)]
    return (fitting or found)[0]


def _may_take(part: Part, width: int, given: int) -> bool:
    """Whether a part reads so many numbers; those of a convolution's weights are of one group."""
    return given > 0 and given % width == 0 if isinstance(part, Conv1d) else given == width


def _reader(arrangement: Arrangement) -> tuple[Part, int]:
    before: Sequence[Part] = (*arrangement.before, *arrangement.lstms)
    return arrangement.embedding or before[0], _width(before[0])


def _width(part: Part) -> int:
    if isinstance(part, Linear | Conv1d):
        return part.in_features
    if isinstance(part, Norm):
        return part.width
    if isinstance(part, Embedding):
        return part.num_embeddings
    return int(part.spec.input_size)  # type: ignore[attr-defined] # what is left is recurrent


def _says_tokens(options: Options) -> bool:
    return bool(options.characters or options.vocabulary or options.task == "next_token")


def _scaler(options: Options) -> scalers.ScalerFile | None:
    if options.scaler is None or isinstance(options.scaler, scalers.ScalerFile):
        return options.scaler
    return scalers.parse_scaler(options.scaler, "scaler")


def _scaling(stated: Stated | None, names: Sequence[str]) -> Scaling | None:
    return None if stated is None else _arrays(stated.resolve(names))


def _output_scaling(scaler: scalers.ScalerFile | None, options: Options) -> Scaling | None:
    """Of the outputs, whose number is not known yet where they have no names."""
    stated, names = None if scaler is None else scaler.outputs, options.outputs
    if stated is None:
        return None
    if names or stated.names is not None:
        return _arrays(stated.resolve(names or stated.names or ()))
    return Scaling(np.atleast_1d(stated.mean), np.atleast_1d(stated.std))


def _arrays(maps: Sequence[Affine]) -> Scaling:
    return Scaling(np.array([each.mean for each in maps]), np.array([each.std for each in maps]))


def _tokens(
    options: Options, beside: Mapping[str, Any], rows: int, owner: str
) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """[input] of the manifest, the entries of its file, and what was guessed."""
    if options.characters is not None:
        if len(options.characters) != rows:
            refuse("characters", f"has {len(options.characters)} entries, but {owner} has {rows}")
        return {"kind": "tokens", "vocabulary": "characters", "characters": options.characters}, (), ()
    if options.vocabulary:
        return _of_entries(options, options.vocabulary, rows, owner, ())
    found = find_vocabulary(beside, rows)
    if found.entries is not None:
        source = f"Vocabulary: {found.source} in the checkpoint (--vocabulary FILE for another)."
        kind = kind_of(found.entries)
        if kind.kind is not None or options.tokens is not None:
            return _of_entries(options, found.entries, rows, owner, (source, *found.notes))
    notes = (f"Tokens: {rows}, known by their ids alone (--characters or --vocabulary FILE to read text).",)
    return {"kind": "tokens", "vocabulary": "ids", "size": rows}, (), (*found.notes, *notes)


def _of_entries(
    options: Options, entries: tuple[str, ...], rows: int, owner: str, notes: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    spare = rows - len(entries)
    if spare < 0 or spare > min(MOST_SPARE, len(entries)):
        refuse("vocabulary", f"has {len(entries)} entries, but {owner} has {rows}")
    kind = kind_of(entries)
    chosen = options.tokens or kind.kind
    if chosen is None:
        refuse("tokens", f"{kind.reason}: state characters or words")
    said = [*notes, f"Tokens: {chosen}; a text is split as docs/models.md says, ids are taken as they are."]
    if spare:
        said.append(f"Vocabulary: {owner} has {spare} rows more than the vocabulary; no text reads them.")
        entries = _with_spare(entries, rows)
    stated: dict[str, Any] = {"kind": "tokens", "vocabulary": chosen, "file": VOCABULARY_FILE}
    if kind.unknown is not None:
        said.append(f"Unknown tokens are read as {kind.unknown!r} (input.unknown in the manifest).")
        stated |= {"unknown": "token", "unknown_token": kind.unknown}
    if _lowercase(options, entries, kind, said):
        stated["lowercase"] = True
    return stated, entries, tuple(said)


def _with_spare(entries: tuple[str, ...], rows: int) -> tuple[str, ...]:
    taken = set(entries)
    return (*entries, *(filler(index, taken) for index in range(len(entries), rows)))


def _lowercase(options: Options, entries: Sequence[str], kind: Kind, said: list[str]) -> bool:
    if options.lowercase is not None:
        return options.lowercase == "true"
    plain = [entry for entry in entries if entry not in kind.special]
    if is_lowercase(plain):
        said.append(
            "Text is not lower-cased, though all entries are lower case (--lowercase true if the training did)."
        )
    return False


def _vocabulary(tokens: dict[str, Any], entries: Sequence[str]) -> Vocabulary | None:
    if tokens["vocabulary"] == "ids":
        return None
    listed = entries or list(tokens["characters"])
    return Vocabulary(
        listed,
        tokens["vocabulary"],
        tokens.get("unknown", "refuse"),
        tokens.get("unknown_token"),
        lowercase=tokens.get("lowercase", False),
    )
