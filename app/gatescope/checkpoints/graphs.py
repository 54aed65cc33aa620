"""`understand_graph`: a graph's file, what is stated of it and a sample -> the manifest that serves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope import zip_file
from gatescope.checkpoints.card import arguments
from gatescope.checkpoints.formats.checkpoint import FIRST_BYTES
from gatescope.checkpoints.given_sample import GivenSample
from gatescope.checkpoints.structure import infer_manifest
from gatescope.checkpoints.structure.arrange import refuse
from gatescope.checkpoints.structure.infer_manifest import Shapes
from gatescope.checkpoints.structure.inputs import inputs_for
from gatescope.checkpoints.structure.options import Options, given
from gatescope.checkpoints.understand import Understood
from gatescope.errors import CheckpointError, ModuleFailed
from gatescope.names import listed
from gatescope.pipeline import graph_files
from gatescope.pipeline.graph_files import open_graph
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.graph_file import Described, GraphFile
from gatescope.pipeline.program.program import Program
from gatescope.source import Source
from gatescope.state import State

_NAMES = {"onnx": "ONNX graph", "pt2": "Exported graph"}
_LAYOUTS = {"onnx": ("batch_first", "time_first"), "pt2": ("batch_first",)}
EXPORTED = "models/model.json"
"""What an archive of `torch.export` holds, and one of `torch.save` does not."""

_ONNX_BEGINS = b"\x08"  # the first field of a model is its version
_OF_LAYERS = (
    "layers",
    "prefix",
    "join",
    "embedding",
    "head",
    "steps",
    "activation",
    "output_activation",
    "ignore",
    "static",
)
_STEPS = 32
_TOLERANCE = 1e-3  # far above what the order of sums does in float32, far below what another row does
_SEQUENCE = 3  # axes of a prediction for each time step


def kind_of(path: Path, source: Source) -> str | None:
    """The format of a graph's file, by its name or its content; None of another file.

    Raises:
        CheckpointError: it is a damaged zip file.
    """
    for kind in graph_files.NAMES:
        if path.suffix == f".{kind}":
            return kind
    begins = source.at(0, FIRST_BYTES)
    if begins.startswith(zip_file.BEGINS):
        return "pt2" if EXPORTED in zip_file.StoredZip(source).members else None
    return "onnx" if begins.startswith(_ONNX_BEGINS) and begins[8:9] != b"{" else None


@dataclass(frozen=True)
class GraphRead:
    """A graph's file, checked and described."""

    kind: str
    file: GraphFile
    described: Described

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found, a sentence each."""
        config = self.described.config
        notes = [f"Sequences go into '{config['input']}'."]
        if "sequence_lengths" in config:
            notes.append(f"Lengths go into '{config['sequence_lengths']}'.")
        if "initial_state" in config:
            finals = listed(config["final_state"]) if "final_state" in config else "no output"
            notes.append(f"States go into {listed(config['initial_state'])}, and come from {finals}.")
        if "prediction" in config:
            notes.append(f"The prediction is '{config['prediction']}'.")
        if self.described.left_out:
            notes.append(f"Outputs that are not served: {listed(self.described.left_out)}.")
        return (*notes, *self.described.notes)


def read_graph(kind: str, path: Path) -> GraphRead:
    """The graph in a file of this format.

    Raises:
        CheckpointError: it cannot be read or served.
        ModuleError: the packages that it needs are not installed.
    """
    file = open_graph(kind, path)
    try:
        return GraphRead(kind, file, file.described())
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from None


def understand_graph(read: GraphRead, options: Options, sample: GivenSample | None) -> Understood:
    """The manifest that the options state, or that the graph's inputs and outputs suggest.

    Raises:
        InvalidInput: an option does not fit the graph.
        CheckpointError: the graph cannot be run as a model of sequences.
    """
    for useless in given(options, _OF_LAYERS):
        refuse(useless, "is about weights, but a graph says itself what is computed")
    described = read.described
    width = _width(described, options)
    config, program, shape = _tried(read, width)
    rows, owner = width if described.reads_tokens else None, f"the table that '{config.input}' looks up"
    inputs = inputs_for(options, {}, sample, rows=rows, width=width, owner=owner)
    stated = {"format": read.kind} | config.model_dump(exclude_defaults=True)
    reading = _Reading(stated, _description(read), described.function, config.prediction is not None)
    meant = infer_manifest.of(reading, shape, options, inputs)
    changes: dict[str, Any] = {"trial_steps": program.fixed_steps or _STEPS}
    if sample is not None:
        changes["examples"] = ()
    notes = (*inputs.notes, *_lengths_told(program), *meant.notes)
    manifest = meant.manifest.model_copy(update=changes)
    return Understood(manifest, inputs.entries, None, notes, _batch_first(sample, config))


@dataclass(frozen=True)
class _Reading:
    """A graph, as `infer_manifest.Reading`."""

    graph: dict[str, Any]
    description: str
    last: str | None
    predicts: bool
    own_width: None = None
    is_verified: bool = False
    notes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    not_computed: tuple[tuple[str, str, str], ...] = ()

    @property
    def stated(self) -> dict[str, Any]:
        """[graph] of the manifest."""
        return {"graph": self.graph}


def _description(read: GraphRead) -> str:
    kinds = ", ".join(dict.fromkeys(map(arguments, read.described.specs.values())))
    return f"{_NAMES[read.kind]}: {kinds}"


def _width(described: Described, options: Options) -> int:
    if described.width:
        return described.width
    size = len(options.vocabulary or options.characters or ())
    if not size:
        refuse("vocabulary", "the graph does not show how many tokens there are: state their entries")
    return size


def _tried(read: GraphRead, width: int) -> tuple[GraphConfig, Program, Shapes]:
    """The graph as a program with the axes in the order in which rows do not depend on one another."""
    reasons = []
    for layout in _LAYOUTS[read.kind]:
        config = GraphConfig.model_validate({**read.described.config, "layout": layout})
        program = read.file.program(config)
        try:
            shapes = _shapes(program, width, reads_tokens=read.described.reads_tokens)
            is_exchanged = _are_states_exchanged(program, width, reads_tokens=read.described.reads_tokens)
        except ModuleFailed as error:
            reasons.append(f"with the {layout.partition('_')[0]} axis first, {error}")
            continue
        if is_exchanged:
            changed = {name: getattr(config, name)[::-1] for name in ("initial_state", "final_state")}
            config = config.model_copy(update=changed)
            program = read.file.program(config)
        return config, program, shapes
    raise CheckpointError(f"it does not run as a model of sequences: {'; '.join(reasons)}")


def _shapes(program: Program, width: int, *, reads_tokens: bool) -> Shapes:
    """What goes in and comes out, found by runs of several lengths and batches.

    Raises:
        ModuleFailed: it cannot run, or what it gives for a sequence depends on the others.
    """
    lengths = [program.fixed_steps] if program.fixed_steps else [_STEPS, _STEPS + 7, 2]
    shapes = []
    for steps in lengths:
        inputs = _random((program.fixed_batch or 2, steps), width, reads_tokens=reads_tokens)
        values = _values(program, inputs)
        if len(values) != len(inputs):
            raise ModuleFailed(f"it gives {tuple(values.shape)} for a batch of {len(inputs)} × {steps} steps")
        if not _same(_values(program, inputs[-1:])[0], values[-1]):
            raise ModuleFailed("it gives something else for a sequence alone than in a batch")
        shapes.append(values.shape)
    pairs = zip(shapes, lengths, strict=True)
    per_step = len(shapes[0]) == _SEQUENCE and all(shape[1] == steps for shape, steps in pairs)
    return Shapes(width, shapes[0][-1], per_step)


def _are_states_exchanged(program: Program, width: int, *, reads_tokens: bool) -> bool:
    """Whether an LSTM begins with the second of two states as its hidden state."""
    name = next(iter(program.recurrent))
    layout = program.state_layout(name)
    if not program.takes_state or len(layout.spec.cell.states) < 2:  # noqa: PLR2004 - hidden and cell state
        return False
    rows = program.fixed_batch or 2
    inputs = _random((rows, program.fixed_steps or _STEPS), width, reads_tokens=reads_tokens)
    random = torch.Generator().manual_seed(1)
    state = State(*(torch.randn(shape, generator=random) for shape in layout.spec.state_shapes(rows).values()))
    lengths = torch.full((rows,), inputs.shape[1])
    _, calls = program.call(inputs, lengths, layout.given(state), (name,))
    begun, entries = calls[name][0].initial_state, slice(calls[name][0].initial_state.hidden_state.shape[0])
    return all(
        torch.equal(one, other[entries])
        for one, other in zip(begun, reversed(tuple(state)), strict=True)
        if one.shape == other[entries].shape
    )


def _random(sizes: tuple[int, int], width: int, *, reads_tokens: bool) -> Tensor:
    """(batch, time) ids or (batch, time, feature)."""
    random = torch.Generator().manual_seed(0)
    if reads_tokens:
        return torch.randint(width, sizes, generator=random)
    return torch.randn(*sizes, width, generator=random)


def _values(program: Program, inputs: Tensor) -> Tensor:
    """The prediction, or the output of the first module of a graph without one."""
    lengths, name = torch.full((len(inputs),), inputs.shape[1]), next(iter(program.recurrent))
    returned, calls = program.call(inputs, lengths, None, (name,))
    values: Tensor = calls[name][0].output if returned.prediction is None else returned.prediction
    return values


def _same(given: Tensor, other: Tensor) -> bool:
    if given.shape != other.shape:
        return False
    return float((given - other).abs().max()) <= _TOLERANCE * (1 + float(other.abs().max()))


def _lengths_told(program: Program) -> Sequence[str]:
    if program.fixed_steps:
        only = f"The graph takes sequences of {program.fixed_steps} steps, and no others"
        return (f"{only}; export it with an open time axis for any.",)
    return ()


def _batch_first(sample: GivenSample | None, config: GraphConfig) -> GivenSample | None:
    """A sample in the graph's own axes, with the batch first."""
    if sample is None or config.layout == "batch_first" or not isinstance(sample.inputs, np.ndarray):
        return sample
    expected = sample.expected
    if isinstance(expected, np.ndarray) and expected.ndim == _SEQUENCE:
        expected = expected.swapaxes(0, 1)
    return replace(sample, inputs=sample.inputs.swapaxes(0, 1), expected=expected)
