"""`understand`: a checkpoint's weights, what is stated of them and a sample -> the manifest that serves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatescope.checkpoints.companions.hints import Hints
from gatescope.checkpoints.formats.checkpoint import Checkpoint
from gatescope.checkpoints.given_sample import GivenSample
from gatescope.checkpoints.structure import infer_manifest
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.infer_manifest import Shapes
from gatescope.checkpoints.structure.inputs import Inputs, inputs_of, with_hints, with_labels
from gatescope.checkpoints.structure.interpret import Interpretation, interpret
from gatescope.checkpoints.structure.kinds import FoundRecurrent
from gatescope.checkpoints.structure.options import Options
from gatescope.checkpoints.structure.questions import sequences_of
from gatescope.checkpoints.structure.search import Match
from gatescope.pipeline.graph import INPUTS, STATIC, Graph
from gatescope.pipeline.layers.layer import Shape
from gatescope.pipeline.layers.recurrent import RecurrentConfig
from gatescope.pipeline.manifest import Manifest

_OWN = (
    "weight",
    "bias",
    "running_mean",
    "running_var",
    "transitions",
    "start_transitions",
    "end_transitions",
)
"""What the weights of layers that are not recurrent are called."""


NO_HINTS = Hints()
"""Where nothing is said beside the weights."""


@dataclass(frozen=True)
class Understood:
    """A manifest and what goes with it."""

    manifest: Manifest
    entries: tuple[str, ...]
    """Of the vocabulary's file, where there is one."""
    sample: dict[str, Any] | None
    """`request` and `expected` of the sample that verified it, as requests and replies have them."""
    notes: tuple[str, ...]
    """What was found, guessed and left out, a sentence each."""
    unchecked: GivenSample | None = None
    """A sample that is still to be held against the model."""


def understand(
    contents: Contents,
    read: Checkpoint,
    options: Options,
    sample: GivenSample | None,
    hints: Hints = NO_HINTS,
) -> Understood:
    """The manifest that the options state, the sample verifies, or the names and shapes of the weights suggest.

    Args:
        contents: of the checkpoint.
        read: the checkpoint.
        options: what is stated.
        sample: inputs, and what the training code computed of them.
        hints: what configurations beside the weights say.

    Raises:
        InvalidInput: an option or the sample does not fit, or something must be stated.
        WeightsError: there is no recurrent layer.
    """
    options, of_hints = with_hints(contents, options, hints)
    options, of_labels = with_labels(contents, options, read.beside)
    inputs = inputs_of(contents, options, read.beside, sample)
    meaning = interpret(contents, read.weights, options, inputs.asked)
    shape = _shapes(meaning, read.weights, options, inputs)
    made = infer_manifest.of(meaning, shape, options, inputs)
    notes = (*of_hints, *of_labels, *inputs.notes, *meaning.notes, *made.notes)
    stored = None if meaning.match is None else _stored(meaning.match, inputs, shape)
    return Understood(made.manifest, () if meaning.takes_own_inputs else inputs.entries, stored, notes)


def weights_of(manifest: Manifest, contents: Contents, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a checkpoint that the layers of a manifest use."""
    recurrent = {part.path: part for part in contents.parts if isinstance(part, FoundRecurrent)}
    names: set[str] = set()
    for layer in manifest.layers:
        prefix = layer.name if layer.weights is None else layer.weights
        if isinstance(layer, RecurrentConfig) and prefix in recurrent:
            names |= set(recurrent[prefix].names.values())
            names |= {name for name in layer.learned_states.values() if name is not None}
        else:
            names |= {f"{prefix}.{name}" if prefix else name for name in _OWN}
    return {name: value for name, value in weights.items() if name in names}


def _shapes(meaning: Interpretation, weights: Mapping[str, Tensor], options: Options, inputs: Inputs) -> Shapes:
    """What the layers take and give, found without a number being computed."""
    described = {name: torch.empty(value.shape, device="meta") for name, value in weights.items()}
    asked = inputs.asked
    if meaning.takes_own_inputs:
        given = {INPUTS: Shape(meaning.arrangement.input_width)}
    elif asked.vocabulary_size is not None:
        given = {INPUTS: Shape(asked.vocabulary_size, is_ids=True)}
    else:
        given = {INPUTS: Shape(inputs.width)}
    if options.static:
        given[STATIC] = Shape(len(options.static), is_sequence=False, is_static=True)
    stub = Manifest.model_validate(
        {
            "description": "-",
            "input": {"kind": "tokens", "vocabulary": "ids", "size": 1},
            "layers": list(meaning.layers),
        }
    )
    graph = Graph(stub.layers, given, described, ignored=[*described])
    shape = graph.shapes[graph.last]
    return Shapes(given[INPUTS].width, shape.width, shape.is_sequence)


def _stored(match: Match, inputs: Inputs, shape: Shapes) -> dict[str, Any]:
    """The sample as a request and the values of its reply: batch first, raw, without padding."""
    asked, question = inputs.asked, match.question
    sample = asked.sample
    if sample is None:
        raise TypeError("there is no sample")
    request: dict[str, Any]
    if sample.texts is not None:
        request = {"text": list(sample.texts)}
    else:
        sequences = sequences_of(asked, sample, time_first=question.time_first) or []
        if asked.scaler is not None and not question.scaled_inputs:
            sequences = [asked.scaler.raw(each) for each in sequences]
        request = {"inputs": [each.tolist() for each in sequences]}
    if sample.static is not None:
        static = sample.static
        if asked.static_scaler is not None and not question.scaled_inputs:
            static = asked.static_scaler.raw(static)
        request["static_inputs"] = static.tolist()
    if sample.state is not None:
        request["initial_state"] = {name: value.tolist() for name, value in sample.state.items()}
    expected = question.rows(shape.gives, per_step=shape.per_step)
    if expected is None:
        raise TypeError("what matched has the shape of the prediction")
    if asked.output_scaler is not None:
        expected = [asked.output_scaler.raw(each) for each in expected]
    return {"request": request, "expected": [each.tolist() for each in expected], "tolerance": sample.tolerance}
