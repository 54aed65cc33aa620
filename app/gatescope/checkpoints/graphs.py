"""`understand_graph`: a graph's file, what is stated of it and a sample -> the manifest that serves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gatescope import extras
from gatescope.checkpoints.card import arguments
from gatescope.checkpoints.formats.names import listed
from gatescope.checkpoints.given_sample import GivenSample
from gatescope.checkpoints.structure import infer_manifest
from gatescope.checkpoints.structure.arrange import refuse
from gatescope.checkpoints.structure.infer_manifest import Shapes
from gatescope.checkpoints.structure.inputs import read_as
from gatescope.checkpoints.structure.options import Options, given
from gatescope.checkpoints.understand import Understood
from gatescope.errors import CheckpointError, ModuleError, ModuleFailed
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.spec import Spec

if TYPE_CHECKING:
    from gatescope.pipeline.onnx.describe import Described
    from gatescope.pipeline.onnx.graph import OnnxGraph
    from gatescope.pipeline.onnx.program import OnnxProgram

SUFFIX = ".onnx"
_BEGINS = b"\x08"  # the first field of a model is its version
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


def is_graph(path: Path, begins: bytes) -> bool:
    """Whether a file is an ONNX graph, by its name or its first bytes."""
    return path.suffix == SUFFIX or (begins.startswith(_BEGINS) and begins[8:9] != b"{")


@dataclass(frozen=True)
class GraphRead:
    """A graph's file, checked and described."""

    content: bytes
    """The whole model: what lay in files beside it is inside."""
    graph: OnnxGraph
    described: Described
    notes: tuple[str, ...]

    @property
    def specs(self) -> dict[str, Spec]:
        """The recurrent nodes that can be looked into, by name."""
        return {name: Spec.from_module(node.module) for name, node in self.graph.nodes.items()}


def read_graph(path: Path) -> GraphRead:
    """The graph in an ONNX file.

    Raises:
        CheckpointError: it cannot be read or served.
        ModuleError: the packages that it needs are not installed.
    """
    try:
        from gatescope.pipeline.onnx.describe import describe  # noqa: PLC0415 - an extra, loaded when it is needed
        from gatescope.pipeline.onnx.graph import OnnxGraph  # noqa: PLC0415
        from gatescope.pipeline.onnx.model_file import read_onnx  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleError(extras.missing(error) or str(error)) from error
    model = read_onnx(path)
    content = model.SerializeToString()
    try:
        graph = OnnxGraph.of(model)
        described = describe(graph)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from None
    return GraphRead(content, graph, described, (*_told(graph, described),))


def _told(graph: OnnxGraph, described: Described) -> list[str]:
    """What was found, a sentence each."""
    config = described.config
    notes = [f"Sequences go into '{config['input']}'."]
    if "sequence_lengths" in config:
        notes.append(f"Lengths go into '{config['sequence_lengths']}'.")
    if "initial_state" in config:
        finals = listed(config["final_state"]) if "final_state" in config else "no output"
        notes.append(f"States go into {listed(config['initial_state'])}, and come from {finals}.")
    if "prediction" in config:
        notes.append(f"The prediction is '{config['prediction']}'.")
    if described.left_out:
        notes.append(f"Outputs that are not served: {listed(described.left_out)}.")
    notes += [f"'{name}' is computed, but cannot be looked into: {why}." for name, why in graph.untraceable.items()]
    reversed_nodes = [name for name, node in graph.nodes.items() if node.is_reverse]
    if reversed_nodes:
        notes.append(f"Read from the end, so that their steps stand in that order: {listed(reversed_nodes)}.")
    return notes


def understand_graph(read: GraphRead, options: Options, sample: GivenSample | None) -> Understood:
    """The manifest that the options state, or that the graph's inputs and outputs suggest.

    Raises:
        InvalidInput: an option does not fit the graph.
        CheckpointError: the graph cannot be run as a model of sequences.
    """
    for useless in given(options, _OF_LAYERS):
        refuse(useless, "is about weights, but a graph says itself what is computed")
    described = read.described
    program, shape = _tried(read)
    config = program.config.model_dump(exclude_defaults=True) | {"format": "onnx"}
    owner = f"the table that '{config['input']}' looks up" if described.reads_tokens else None
    inputs = read_as(options, {}, sample, _width(described, options), owner)
    reading = _Reading(config, _description(read), described.function, described.config.get("prediction") is not None)
    meant = infer_manifest.of(reading, shape, options, inputs)
    if sample is not None:
        meant = replace(meant, manifest=meant.manifest.model_copy(update={"examples": ()}))
    manifest = meant.manifest.model_copy(update={"trial_steps": program.fixed_steps or _STEPS})
    notes = (*inputs.notes, *_lengths_told(program), *meant.notes)
    return Understood(manifest, inputs.entries, None, notes, _batch_first(sample, program))


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
    return f"ONNX graph: {', '.join(dict.fromkeys(map(arguments, read.specs.values())))}"


def _width(described: Described, options: Options) -> int:
    if described.width:
        return described.width
    size = len(options.vocabulary or options.characters or ())
    if not size:
        refuse("vocabulary", "the graph does not show how many tokens there are: state their entries")
    return size


def _tried(read: GraphRead) -> tuple[OnnxProgram, Shapes]:
    """The graph as a program with the axes in the order in which rows do not depend on one another."""
    from gatescope.pipeline.onnx.program import OnnxProgram  # noqa: PLC0415 - `read_graph` has loaded it

    reasons = []
    for layout in ("batch_first", "time_first"):
        config = GraphConfig.model_validate(read.described.config | {"layout": layout})
        program = OnnxProgram(read.graph, config)
        try:
            return program, _shapes(program, read.described)
        except ModuleFailed as error:
            reasons.append(f"with the {layout.partition('_')[0]} axis first, {error}")
    raise CheckpointError(f"it does not run as a model of sequences: {'; '.join(reasons)}")


def _shapes(program: OnnxProgram, described: Described) -> Shapes:
    """What goes in and comes out, found by runs of several lengths and batches.

    Raises:
        ModuleFailed: it cannot run, or what it gives for a sequence depends on the others, or on its length alone.
    """
    lengths = [program.fixed_steps] if program.fixed_steps else [_STEPS, _STEPS + 7, 2]
    shapes = []
    for steps in lengths:
        inputs = _random(described, 1 if program.fixed_batch == 1 else 2, steps)
        values = _values(program, inputs)
        if len(values) != len(inputs):
            raise ModuleFailed(f"it gives {tuple(values.shape)} for a batch of {len(inputs)} × {steps} steps")
        if not _same(_values(program, inputs[-1:])[0], values[-1]):
            raise ModuleFailed("it gives something else for a sequence alone than in a batch")
        shapes.append(values.shape)
    per_step = len(shapes[0]) == _SEQUENCE and all(
        shape[1] == steps for shape, steps in zip(shapes, lengths, strict=True)
    )
    return Shapes(described.width, shapes[0][-1], per_step)


def _random(described: Described, rows: int, steps: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    if described.reads_tokens:
        return torch.randint(described.width or 1, (rows, steps), generator=random)
    return torch.randn(rows, steps, described.width, generator=random)


def _values(program: OnnxProgram, inputs: Tensor) -> Tensor:
    """The prediction, or the output of the first node of a graph without one."""
    lengths, name = torch.full((len(inputs),), inputs.shape[1]), next(iter(program.recurrent))
    returned, calls = program.call(inputs, lengths, None, (name,))
    values: Tensor = calls[name][0].output if returned.prediction is None else returned.prediction
    return values


def _same(given: Tensor, other: Tensor) -> bool:
    if given.shape != other.shape:
        return False
    return float((given - other).abs().max()) <= _TOLERANCE * (1 + float(other.abs().max()))


def _lengths_told(program: OnnxProgram) -> Sequence[str]:
    if program.fixed_steps:
        only = f"The graph takes sequences of {program.fixed_steps} steps, and no others"
        return (f"{only}; export it with an open time axis for any.",)
    return ()


def _batch_first(sample: GivenSample | None, program: OnnxProgram) -> GivenSample | None:
    """A sample in the graph's own axes, with the batch first."""
    if sample is None or program.config.layout == "batch_first" or not isinstance(sample.inputs, np.ndarray):
        return sample
    expected = sample.expected
    if isinstance(expected, np.ndarray) and expected.ndim == _SEQUENCE:
        expected = expected.swapaxes(0, 1)
    return replace(sample, inputs=sample.inputs.swapaxes(0, 1), expected=expected)
