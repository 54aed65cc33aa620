"""`open_graph`: a graph's file, by the package that its format needs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from gatescope import extras
from gatescope.errors import ModuleError
from gatescope.pipeline.program.graph_file import GraphFile

NAMES = {"onnx": "model.onnx", "pt2": "model.pt2"}
"""What a version's file is called, by its format."""

_READERS = {
    "onnx": ("gatescope.pipeline.onnx.file", "OnnxFile"),
    "pt2": ("gatescope.pipeline.export.file", "ExportedFile"),
}
"""Imported when a file of the format is opened: what they need is an extra."""


def open_graph(kind: str, path: Path) -> GraphFile:
    """The graph in a file of this format.

    Raises:
        CheckpointError: the file cannot be read, or is not served.
        ModuleError: what reads it is not installed.
    """
    module, name = _READERS[kind]
    try:
        reader = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModuleError(extras.missing(error) or str(error)) from error
    opened: GraphFile = reader(path)
    return opened
