"""`OnnxFile`: an ONNX file, read and checked."""

from __future__ import annotations

from pathlib import Path

from gatescope.errors import CheckpointError
from gatescope.pipeline.onnx.describe import describe
from gatescope.pipeline.onnx.graph import OnnxGraph
from gatescope.pipeline.onnx.model_file import read_onnx
from gatescope.pipeline.onnx.program import OnnxProgram
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.graph_file import Described, GraphFile


class OnnxFile(GraphFile):
    """The graph in an ONNX file.

    Args:
        path: of the file.

    Raises:
        CheckpointError: it cannot be read, or is not served.
    """

    def __init__(self, path: Path) -> None:
        model = read_onnx(path)
        self.content = model.SerializeToString()
        try:
            self._graph = OnnxGraph.of(model)
        except CheckpointError as error:
            raise CheckpointError(f"{path.name}: {error}") from None

    def described(self) -> Described:
        """As its types, axes and nodes show it."""
        return describe(self._graph)

    def program(self, config: GraphConfig) -> OnnxProgram:
        """In ONNX Runtime."""
        return OnnxProgram(self._graph, config)
