"""`read`: the file of `torch.export.save`, without PyTorch's loader and without its pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gatescope.errors import CheckpointError
from gatescope.names import listed, printable, quoted
from gatescope.pipeline.export.graph import Bound, Graph
from gatescope.pipeline.export.read_graph import AGAIN, parsed, read_graph, tensor_meta
from gatescope.pipeline.stored_tensors import Loader, Storage, StoredTensor
from gatescope.source import Source, opened
from gatescope.zip_file import StoredZip

MOST_BYTES = 2 * 2**30
MOST_JSON_BYTES = 64 * 2**20
MOST_TEXT_BYTES = 64
MOST_TIMES_FILE = 2
"""Weights may share what is stored, as a slice and the whole do, but not so often that memory is exhausted."""

PROGRAM = "models/model.json"
PAYLOADS = {
    False: ("data/weights/model_weights_config.json", "data/weights/"),
    True: ("data/constants/model_constants_config.json", "data/constants/"),
}
"""Where weights, and tensors that are no part of the state dict, are listed, and the folder in which they lie."""


@dataclass(frozen=True)
class Archive:
    """An exported program and the tensors that its graph reads."""

    graph: Graph
    tensors: Mapping[str, Tensor]
    """By their name in the graph: finite, contiguous, on the CPU; floats are float32. Tied ones are one tensor."""


def read(path: Path, most_bytes: int = MOST_BYTES) -> Archive:
    """The graph and the weights in a file of `torch.export.save`.

    Nothing in it is executed, imported or unpickled; the sample inputs are not read. What it declares is held against
    its length before memory is taken for it.

    Raises:
        CheckpointError: it cannot be read, is larger than `most_bytes`, is damaged, is of another version, or needs
            what is stored as a pickle.
    """
    try:
        with opened(path, most_bytes) as source:
            return _Reader(source).read()
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path.name or str(path))}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{printable(path.name)}: it cannot be read: {error.strerror or error}") from None


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source, self._zip = source, StoredZip(source)
        self._zip.check_stored("torch.export.save")
        names = [member.filename for member in self._zip.all]
        if strange := [name for name in names if _is_strange(name)]:
            raise CheckpointError(f"it holds {listed(strange)}, which is no name that torch.export.save writes")
        if not self._zip.is_one_folder:
            raise CheckpointError("it holds two members of one name, or members outside its folder")

    def read(self) -> Archive:
        """The graph, and what it reads."""
        self._check_kind()
        graph = read_graph(self._content(PROGRAM, MOST_JSON_BYTES))
        return Archive(graph, self._tensors(graph.bound))

    def _check_kind(self) -> None:
        members = self._zip.members
        if self._text("archive_format", "") != "pt2":
            raise CheckpointError(f"it is a zip file, but none of torch.export.save as PyTorch writes it now; {AGAIN}")
        if PROGRAM not in members:
            found = [name for name in members if name.startswith(("models/", "data/aotinductor/"))]
            has = f"it holds {listed(found)} instead" if found else "it holds none"
            raise CheckpointError(f"it needs one exported program, {PROGRAM}; {has}")
        if (version := self._text("archive_version", "0")) != "0":
            raise CheckpointError(f"its archive has version {printable(version)}, and only 0 is read; {AGAIN}")
        if (order := self._text("byteorder", "little")) != "little":
            raise CheckpointError(f"its numbers have byte order {printable(order)}, and only little is read")

    def _tensors(self, bound: tuple[Bound, ...]) -> dict[str, Tensor]:
        """Each tensor that the graph reads; those that lie at one place are one."""
        loader, loaded, tensors, total = Loader(), dict[Any, Tensor](), dict[str, Tensor](), 0
        configs = {is_constant: self._config(is_constant) for is_constant in {each.is_constant for each in bound}}
        for each in bound:
            key, stored, is_parameter = self._stored(each, configs[each.is_constant])
            if key not in loaded:
                total += stored.nbytes
                if total > MOST_TIMES_FILE * self._source.size:
                    raise CheckpointError(f"its weights take more than {MOST_TIMES_FILE} times the file's length")
                loaded[key] = _served(each.path, *loader.load(stored), is_parameter=is_parameter)
            tensors[each.name] = loaded[key]
        return tensors

    def _config(self, is_constant: bool) -> Mapping[str, Any]:  # noqa: FBT001 - a key
        content = parsed(self._content(PAYLOADS[is_constant][0], MOST_JSON_BYTES))
        config = content.get("config") if isinstance(content, dict) else None
        if not isinstance(config, dict):
            raise CheckpointError(f"its list of weights is damaged; {AGAIN}")
        return config

    def _stored(self, bound: Bound, config: Mapping[str, Any]) -> tuple[Any, StoredTensor, bool]:
        """What tells the tensor from others, where it lies, and whether it is a parameter."""
        entry = config.get(bound.path)
        if not isinstance(entry, dict):
            raise CheckpointError(f"its graph reads {quoted(bound.path)}, which the file does not hold")
        if entry.get("use_pickle") is not False:
            raise CheckpointError(
                f"{quoted(bound.path)} is stored as a pickle, which would run code when it is read; save it as a "
                "plain tensor"
            )
        name = str(entry.get("path_name"))
        member = self._zip.members.get(PAYLOADS[bound.is_constant][1] + name)
        if member is None or "/" in name:
            raise CheckpointError(f"{quoted(bound.path)} must lie in {quoted(name)}, which the file does not hold")
        meta, raw = tensor_meta(entry.get("tensor_meta"), bound.path), entry["tensor_meta"]
        shape = tuple(size.size for size in meta.shape)
        strides = tuple(_plain(stride) for stride in raw.get("strides") or ())
        offset = _plain(raw.get("storage_offset"))
        storage = Storage(meta.dtype, member.file_size // meta.dtype.itemsize, self._source, self._zip.start(member))
        stored = StoredTensor.of(storage, meta.dtype, offset, shape, strides)
        if stored is None or any(size.symbol is not None for size in meta.shape):
            raise CheckpointError(f"{quoted(bound.path)} has sizes or strides that are none; {AGAIN}")
        stored.check_expanded()
        is_parameter = entry.get("is_param") is not False
        return (storage.offset, meta.dtype, offset, shape, strides, is_parameter), stored, is_parameter

    def _content(self, name: str, most_bytes: int) -> bytes:
        member = self._zip.members.get(name)
        if member is None:
            raise CheckpointError(f"it has no {name}: it is damaged; {AGAIN}")
        if member.file_size > most_bytes:
            raise CheckpointError(f"its {name} has {member.file_size} bytes, and at most {most_bytes} are read")
        return self._zip.content(member)

    def _text(self, name: str, default: str) -> str:
        if name not in self._zip.members:
            return default
        return self._content(name, MOST_TEXT_BYTES).decode("ascii", "replace").strip()


def _is_strange(name: str) -> bool:
    """Whether a member would lie elsewhere than in the archive's folder if somebody unpacked it."""
    return "\\" in name or name.startswith("/") or bool({"", ".", ".."} & set(name.split("/")))


def _plain(given: Any) -> Any:
    """The number of a size that is not symbolic; else None."""
    return given.get("as_int") if isinstance(given, dict) else None


def _served(name: str, value: Tensor, is_finite: bool, *, is_parameter: bool) -> Tensor:  # noqa: FBT001 - as loaded
    """The tensor as it is computed with; a buffer may hold Infinity, as masks do."""
    if not is_finite and (is_parameter or bool(value.isnan().any())):
        raise CheckpointError(f"{quoted(name)} holds NaN or Infinity, or numbers that float32 cannot hold")
    return value.float() if value.is_floating_point() else value
