"""`graph_program`: a graph's file as a program, by the package that its format needs."""

from __future__ import annotations

from pathlib import Path

from gatescope import extras
from gatescope.errors import ModuleError
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.program import Program


def graph_program(config: GraphConfig, path: Path) -> Program:
    """The program that runs this graph.

    Args:
        config: what its inputs and outputs are.
        path: of its file.

    Raises:
        CheckpointError: the file cannot be read or run.
        ManifestError: the graph has no such inputs or outputs.
        ModuleError: what runs it is not installed.
    """
    try:
        from gatescope.pipeline.onnx.graph import OnnxGraph  # noqa: PLC0415 - an extra, loaded when it is needed
        from gatescope.pipeline.onnx.model_file import read_onnx  # noqa: PLC0415
        from gatescope.pipeline.onnx.program import OnnxProgram  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleError(extras.missing(error) or str(error)) from error
    return OnnxProgram(OnnxGraph.of(read_onnx(path)), config)
