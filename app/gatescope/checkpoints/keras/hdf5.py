"""`read`: the arrays and texts of an HDF5 file, read in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gatescope import extras, safetensors_file
from gatescope.checkpoints.keras.hdf5_reader import REFUSED
from gatescope.errors import CheckpointError
from gatescope.source import CUT_OFF, Source

BEGINS = b"\x89HDF\r\n\x1a\n"
TIMEOUT_S = 300
LONGEST_REASON = 300


class Hdf5(NamedTuple):
    """What a file holds."""

    arrays: dict[str, np.ndarray]
    """By their paths; those of an optimizer are left out."""
    texts: Mapping[str, Mapping[str, Any]]
    """The path of a group, empty at the top -> its attributes: a text, or a list of texts."""

    def names(self, path: str, attribute: str) -> list[str]:
        """A list of texts at a group; a long one stands in several attributes, which are numbered."""
        own = self.texts.get(path, {})
        parts = [own[attribute]] if attribute in own else []
        while (name := f"{attribute}{len(parts)}") in own:
            parts.append(own[name])
        return [text for part in parts for text in (part if isinstance(part, list) else [part])]


def read(source: Source, offset: int = 0, size: int | None = None) -> Hdf5:
    """The arrays and texts in a file, or in a part of one.

    Raises:
        CheckpointError: it is no HDF5 file or damaged, holds what Keras does not write, or h5py is not installed.
    """
    size = source.size if size is None else size
    if source.at(offset, len(BEGINS)) != BEGINS:
        raise CheckpointError(f"its HDF5 part does not begin as such a file does; {CUT_OFF}")
    if importlib.util.find_spec("h5py") is None:
        raise CheckpointError(str(extras.missing(ModuleNotFoundError(name="h5py"))))
    content = _asked(source, offset, size)
    try:
        arrays, metadata = safetensors_file.read(content)
        return Hdf5(arrays, json.loads(metadata["texts"]))
    except (ValueError, KeyError):
        raise CheckpointError(f"its HDF5 part cannot be read: {CUT_OFF}") from None


def _asked(source: Source, offset: int, size: int) -> bytes:
    """What the reader's process answers."""
    # -P: nothing is imported from the folder that the user is in
    command = [sys.executable, "-P", "-m", "gatescope.checkpoints.keras.hdf5_reader", str(offset), str(size)]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "FALSE"}
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, stdin=source.file, capture_output=True, timeout=TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"its HDF5 part was not read within {TIMEOUT_S} s: {CUT_OFF}") from None
    if done.returncode == REFUSED:
        said = done.stderr.decode(errors="replace").strip()[:LONGEST_REASON]
        raise CheckpointError("".join(each if each.isprintable() else "�" for each in said))
    if done.returncode:
        raise CheckpointError(f"its HDF5 part cannot be read: {CUT_OFF}")
    return done.stdout
