"""`ExportedFile`: an archive of `torch.export`, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatescope.capture import over_time, recurrent_modules
from gatescope.errors import CheckpointError
from gatescope.pipeline.export.graph import Graph, Ref
from gatescope.pipeline.export.inputs import Input
from gatescope.pipeline.export.module import ExportedModule
from gatescope.pipeline.export.program import ExportedProgram
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.graph_file import Described, GraphFile
from gatescope.spec import Spec

_FEATURES = 3  # axes of a sequence of them
_PREDICTIONS = frozenset({2, 3})  # axes
_FUNCTIONS = {"softmax": "softmax", "_softmax": "softmax", "sigmoid": "sigmoid"}


class ExportedFile(GraphFile):
    """The graph in an archive.

    Args:
        path: of the file.

    Raises:
        CheckpointError: it cannot be read, or is not served.
    """

    def __init__(self, path: Path) -> None:
        self._module = ExportedModule.load(path)
        self.content = path.read_bytes()

    def described(self) -> Described:
        """As the types and axes of its inputs and outputs show it."""
        module = self._module
        sequence = next(each for each in module.inputs if each.role == "sequence")
        lengths = [_checked_lengths(each) for each in module.inputs if each.role == "lengths"]
        states = [each for each in module.inputs if each.role == "state"]
        outputs = [each for each in module.outputs if each.shape is not None]
        finals = [each.name for each in outputs[-len(states) :]] if states else []
        if [each.shape for each in outputs[-len(states) :]] != [each.shape for each in states]:
            finals = []
        predicted = [
            each.name
            for each in outputs
            if each.name not in finals
            and each.dtype is not None
            and each.dtype.is_floating_point
            and len(each.shape or ()) in _PREDICTIONS
        ]
        prediction = next(iter(predicted), None)
        function = _function(module.graph, prediction)
        config: dict[str, Any] = {"format": "pt2", "input": sequence.name}
        config |= {"sequence_lengths": lengths[0]} if lengths else {}
        config |= {"initial_state": [each.name for each in states]} if states else {}
        config |= {"prediction": prediction} if prediction else {}
        config |= {"is_probability": True} if function else {}
        config |= {"final_state": finals} if finals else {}
        reads_tokens = len(sequence.shape) < _FEATURES
        width = _tokens(module.graph, sequence.name) if reads_tokens else sequence.shape[-1]
        program = ExportedProgram(module, GraphConfig.model_validate(config))
        found = recurrent_modules(module).items()
        return Described(
            config,
            width or 0,
            reads_tokens,
            function,
            specs={name: Spec.from_module(over_time(each)) for name, each in found},
            parameters=program.parameter_count,
            left_out=tuple(each.name for each in outputs if each.name not in {prediction, *finals}),
            notes=module.notes,
        )

    def program(self, config: GraphConfig) -> ExportedProgram:
        """In PyTorch."""
        return ExportedProgram(self._module, config)


def _checked_lengths(given: Input) -> str:
    """The name of an input of whole numbers, one for each sequence, which is called lengths.

    Raises:
        CheckpointError: it is called something else, so it may be something else.
    """
    if "len" not in given.name.lower():
        raise CheckpointError(
            f"its input '{given.name}' has a whole number for each sequence; if these are lengths, call it `lengths` "
            "in forward, and export the model again"
        )
    return given.name


def _function(graph: Graph, prediction: str | None) -> str | None:
    """The function that the prediction comes from."""
    if prediction is None:
        return None
    reference = graph.outputs[graph.output_names.index(prediction)]
    for node in graph.nodes:
        if reference is not None and reference.name in node.writes():
            return _FUNCTIONS.get(node.operator.split(".")[1])
    return None


def _tokens(graph: Graph, name: str) -> int | None:
    """How many tokens there are: the rows of the table that the ids look up."""
    for node in graph.nodes:
        table = node.get("weight")
        if node.operator == "aten.embedding.default" and node.get("indices") == Ref(name) and isinstance(table, Ref):
            return graph.metas[table.name].shape[0].size
    return None
