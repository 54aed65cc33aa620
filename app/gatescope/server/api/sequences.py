"""`sequences_of`: the sequences that a request states, cut to their lengths and encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from gatescope import gaps
from gatescope.errors import Place
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.vocabulary import UnknownToken, Vocabulary
from gatescope.server.api import derived
from gatescope.server.api.limits import Limits
from gatescope.server.api.places import refuse
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.server.api.schema.shapes import Loc
from gatescope.server.api.sent_columns import SentColumns, sent_columns

LONGEST_TOKEN = 50  # in messages


def sequences_of(request: PredictRequest, model: Model, limits: Limits, *, goes_on: bool = False) -> list[np.ndarray]:
    """Each sequence: (time, feature) of numbers, or (time) of token ids.

    Where it goes on from an earlier step of a session, the gaps at its beginning are left that only a value before it
    can fill.

    Raises:
        InvalidInput: there are none, or they do not fit the model.
    """
    if request.inputs is None and request.text is None:
        refuse("give either 'inputs' or 'text'" if model.reads_text else "'inputs' is missing", "inputs")
    sent = sent_columns(request, model)
    if request.inputs is not None and request.text is not None:
        refuse("give either 'inputs' or 'text', not both", "text")
    if request.text is not None:
        sequences = _encode(request, model, limits)
        _check_skipped(sequences, request, model)
        return sequences
    sequences = _with_derived(sequences_as_sent(request, sent), request, model, sent)
    sequences = _filled(sequences, request, model, goes_on=goes_on)
    _check_categories(sequences, request, model, sent)
    _check_skipped(sequences, request, model)
    return sequences


def sequences_as_sent(request: PredictRequest, sent: SentColumns) -> list[np.ndarray]:
    """The sequences of `inputs` without padding, with the model's features in its order; NaN where one is missing."""
    return [sent.arranged(sequence) for sequence in _cut(request)]


def tokens_of(request: PredictRequest, model: Model) -> list[list[str]] | None:
    """What a model of tokens read, as it was written; None for a model of features."""
    if model.vocabulary is None:
        return None
    if request.text is not None:
        return [model.vocabulary.split(text) for text in _texts(request.text)]
    return [[model.vocabulary.entries[index] for index in sequence] for sequence in _cut(request)]


def check_lengths(lengths: list[int], request: PredictRequest, model: Model, limits: Limits) -> None:
    """Refuse sequences that are longer than the server takes, each or together, or not as long as the model does.

    Raises:
        InvalidInput: the place is named.
    """
    only = model.pipeline.fixed_steps
    for index, length in enumerate(lengths):
        if only is not None and length != only:
            steps = f"{length:,} time step{'s' * (length != 1)}"
            refuse(f"sequence has {steps}; model '{model.name}' takes exactly {only:,}", *place_of(request, index))
    field = "inputs" if request.inputs is not None else "text"
    further = request.horizon or 0
    with_horizon = f" (with {further} of the horizon)" if further else ""
    longest = max(lengths) + further
    if longest > limits.max_time_steps:
        index = lengths.index(max(lengths))
        message = (
            f"sequence has {longest:,} time steps{with_horizon}; this server takes at most {limits.max_time_steps:,}"
        )
        refuse(message, *place_of(request, index))
    samples = 1 if request.sampling is None else request.sampling.samples
    if longest * len(lengths) * samples > limits.max_batch_steps:
        with_samples = f", {samples} samples each," if samples > 1 else ""
        refuse(
            f"{len(lengths):,} sequences of up to {longest:,} time steps{with_horizon}{with_samples} make a batch of "
            f"{longest * len(lengths) * samples:,} steps; this server takes at most {limits.max_batch_steps:,}",
            *((field,) if samples == 1 else ("sampling", "samples")),
        )


def _cut(request: PredictRequest) -> list[np.ndarray]:
    """The sequences of `inputs`, without the padding where `sequence_lengths` says that there is some."""
    sequences: list[np.ndarray] = request.inputs or []
    lengths = request.sequence_lengths
    if lengths is None:
        return sequences
    if len(lengths) != len(sequences):
        refuse(f"there are {len(lengths)} lengths for {len(sequences)} sequences", "sequence_lengths")
    longest = len(sequences[0])
    for index, sequence in enumerate(sequences):
        if len(sequence) != longest:
            message = "goes beside a padded, rectangular 'inputs', but these sequences differ in length"
            refuse(message, "sequence_lengths")
        if not 1 <= lengths[index] <= longest:
            message = f"sequence length {lengths[index]} lies outside 1 to {longest}, the padded time steps"
            refuse(message, "sequence_lengths", index)
    return [sequence[:length] for sequence, length in zip(sequences, lengths, strict=True)]


def _encode(request: PredictRequest, model: Model, limits: Limits) -> list[np.ndarray]:
    if model.vocabulary is None or not model.vocabulary.reads_text:
        reads = "features" if model.vocabulary is None else "token ids"
        refuse(f"model '{model.name}' reads {reads}, not text: give 'inputs'", "text")
    if request.sequence_lengths is not None:
        refuse("goes beside a padded 'inputs', not beside 'text'", "sequence_lengths")
    texts = _texts(request.text if request.text is not None else [])
    if not texts:
        refuse("text has no sequences", "text")
    characters = sum(map(len, texts))
    if characters > limits.max_batch_steps:
        refuse(f"has {characters:,} characters; this server takes at most {limits.max_batch_steps:,}", "text")
    return [_ids(text, model.vocabulary, place_of(request, index)) for index, text in enumerate(texts)]


def _ids(text: str, vocabulary: Vocabulary, loc: Loc) -> np.ndarray:
    tokens = vocabulary.split(text)
    if not tokens:
        refuse("the text has no tokens", *loc)
    try:
        return np.array(vocabulary.encode(tokens), dtype=np.int64)
    except UnknownToken as error:
        what = "character" if vocabulary.kind == "characters" else "word"
        token = error.token[:LONGEST_TOKEN]
        refuse(f"{what} {token!r} at position {error.index} is not in the model's vocabulary", *loc)


def _texts(text: str | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else text


def _with_derived(
    sequences: list[np.ndarray], request: PredictRequest, model: Model, sent: SentColumns
) -> list[np.ndarray]:
    """The same with the features that follow from the times of the steps."""
    inputs = model.manifest.input
    if sent.derived and isinstance(inputs, FeatureInputs):
        moments = derived.moments_of(request, list(map(len, sequences)), inputs)
        for sequence, own in zip(sequences, moments, strict=True):
            derived.fill(sequence, own, inputs)
    return sequences


def _filled(sequences: list[np.ndarray], request: PredictRequest, model: Model, *, goes_on: bool) -> list[np.ndarray]:
    """The same with missing values filled, as the manifest says."""
    inputs = model.manifest.input
    if not isinstance(inputs, FeatureInputs) or not inputs.takes_gaps:
        return sequences
    made = []
    for row, sequence in enumerate(sequences):
        try:
            made.append(gaps.filled(sequence, inputs.gap_rules, inputs.names, goes_on=goes_on))
        except gaps.GapRefused as error:
            refuse_gap(error, request, model, row)
    return made


def refuse_gap(error: gaps.GapRefused, request: PredictRequest, model: Model, row: int = 0) -> NoReturn:
    """Refuse a gap in a sequence where it was sent."""
    step, feature = error.place.loc
    refuse(str(error), *place_of(request, row, step, sent_columns(request, model).column(feature)))


def _check_categories(sequences: list[np.ndarray], request: PredictRequest, model: Model, sent: SentColumns) -> None:
    inputs = model.manifest.input
    if not isinstance(inputs, FeatureInputs) or not inputs.has_categories:
        return
    if (place := unknown_category(sequences, inputs)) is not None:
        row, step, feature = place.loc
        if feature in sent.derived:
            refuse(f"at time step {step} of sequence {row} {place.message}", "timestamps")
        refuse(place.message, *place_of(request, row, step, sent.column(feature)))


def _check_skipped(sequences: list[np.ndarray], request: PredictRequest, model: Model) -> None:
    """Refuse steps that the training skipped."""
    for row, sequence in enumerate(sequences):
        if (place := model.manifest.input.skipped(sequence)) is not None:
            within = place.loc if request.inputs is not None else ()
            refuse(place.message, *place_of(request, row, *within))


def unknown_category(sequences: Sequence[np.ndarray], inputs: FeatureInputs) -> Place | None:
    """The same as of one sequence, of all at once; its place is (row, step, feature)."""
    place = inputs.unknown_category(np.concatenate(sequences))
    if place is None:
        return None
    ends = np.cumsum([len(sequence) for sequence in sequences])
    step, feature = (int(index) for index in place.loc)
    row = int(np.searchsorted(ends, step, side="right"))
    return Place((row, step - int(ends[row]) + len(sequences[row]), feature), place.message)


def place_of(request: PredictRequest, row: int | str, *within: int | str) -> Loc:
    """Where in what was sent a sequence stands, or a time step of it, or a feature of that."""
    if request.inputs is not None:
        return ("inputs", *request.inputs.loc(row, *within))
    return ("text",) if isinstance(request.text, str) else ("text", row)
