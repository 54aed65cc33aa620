"""`Checkpoint`: the weights in a file that somebody's training script saved, read without running or trusting it."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load_file
from torch import Tensor

from gatescope.checkpoints.formats import archive, legacy, placeholders, reparametrized, state_dict, wrappers
from gatescope.checkpoints.formats.names import RESAVE, listed, printable, quoted
from gatescope.errors import CheckpointError

MOST_BYTES = 2 * 2**30
MOST_HEADER_BYTES = 16 * 2**20

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

GIT_LFS = b"version https://git-lfs"

_loading = threading.Lock()
"""`safe_globals` is the process's, not the thread's."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights under the names that the module gave them: finite, floating-point, dense, each in memory of its own."""

    weights: dict[str, Tensor]
    notes: tuple[str, ...]
    """What was unwrapped, put together or left out, one sentence each."""


def read(path: Path, most_bytes: int = MOST_BYTES) -> Checkpoint:
    """The weights in a file of `torch.save` (of any age) or safetensors; its content says which, not its name.

    Nothing in it is executed, and what it declares is held against its length before memory is taken for it.

    Raises:
        CheckpointError: it cannot be read, is larger than `most_bytes`, is not safe to read, or holds no weights.
    """
    try:
        saved, set_aside = _saved(path, most_bytes)
        found = state_dict.find(saved)
        tensors, left_out = _floating(found.tensors)
        whole, folded = reparametrized.fold(tensors)
        names, unwrapped = wrappers.unwrap(whole)
        _check_size(whole, most_bytes)
        weights = {names[name]: _own(name, value) for name, value in whole.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path.name or str(path))}: {error}") from None
    return Checkpoint(weights, (*set_aside, *found.notes, *left_out, *folded, *unwrapped, *_precision(weights)))


def _saved(path: Path, most_bytes: int) -> tuple[Any, tuple[str, ...]]:
    """What was saved, and a note of the objects in it that were not read."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            return _content(path, file, _size(file, most_bytes))
    except OSError as error:
        raise CheckpointError(f"it cannot be read: {error.strerror or error}") from None
    except ValueError:  # a NUL in its name
        raise CheckpointError("it cannot be read: this is no name of a file") from None


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for somebody to write, as a named pipe would have it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _size(file: BinaryIO, most_bytes: int) -> int:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError("it is no regular file")
    if status.st_size > most_bytes:
        raise CheckpointError(
            f"it has {status.st_size} bytes, and at most {most_bytes} are read; save the weights alone"
        )
    return status.st_size


def _content(path: Path, file: BinaryIO, size: int) -> tuple[Any, tuple[str, ...]]:
    begins = file.read(64)
    for kind in (archive, legacy):
        if begins.startswith(kind.BEGINS):
            seen = kind.survey(file, size)
            aside = (f"Not read: objects of {listed(list(seen.set_aside))}.",) if seen.set_aside else ()
            return _unpickled(file), aside
    if begins[8:9] == b"{":
        return _safetensors(path, int.from_bytes(begins[:8], "little"), size), ()
    raise CheckpointError(_unknown(begins))


def _unknown(begins: bytes) -> str:
    known = "give a file of torch.save (.pt, .pth, .ckpt, .bin) or a .safetensors file"
    if not begins:
        return f"it is empty; {known}"
    if begins.startswith(GIT_LFS):
        return "it is a pointer of Git LFS, not the file itself; fetch it with git lfs pull"
    if begins.startswith(b"\x80"):
        return f"it is a pickle that torch.save did not write, and is not read; {RESAVE}"
    return f"it begins with {begins[:8]!r}, like no checkpoint; {known}"


def _unpickled(file: BinaryIO) -> Any:
    file.seek(0)
    with _loading, torch.serialization.safe_globals(placeholders.safe_globals()):
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - a stranger's file: whatever is wrong with it is the file's fault
            raise _unreadable(error) from None


def _safetensors(path: Path, header: int, size: int) -> dict[str, Tensor]:
    if header > min(size - 8, MOST_HEADER_BYTES):
        raise CheckpointError(f"its header says that it has {header} bytes, of {size} in all: it is cut off or damaged")
    try:
        return load_file(path)
    except Exception as error:  # noqa: BLE001 - as above
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> CheckpointError:
    reason = next(iter(str(error).splitlines()), "")
    return CheckpointError(f"it is damaged ({printable(reason) or type(error).__name__}); copy or save the file again")


def _floating(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors that may be weights, and a note of the buffers that cannot."""
    floating: dict[str, Tensor] = {}
    others: list[str] = []
    for name, value in tensors.items():
        if not name.isprintable():
            raise CheckpointError(f"{quoted(name)} is no name of a weight; {RESAVE}")
        if value.dtype in DTYPES and value.numel():
            floating[name] = value
        elif name.rpartition(".")[2].startswith(("weight", "bias")):
            what = (
                f"{value.dtype}, not floating-point numbers"
                if value.numel()
                else f"no numbers, its shape is {list(value.shape)}"
            )
            raise CheckpointError(f"{quoted(name)} holds {what}; save the module as it was trained, in float32")
        else:
            others.append(name)
    if not floating:
        raise CheckpointError(f"it holds no floating-point weights, only {listed(others)}; {RESAVE}")
    return floating, (f"Left out, because they are no floating-point numbers: {listed(others)}.",) if others else ()


def _check_size(weights: dict[str, Tensor], most_bytes: int) -> None:
    if sum(value.nbytes for value in weights.values()) > most_bytes:
        raise CheckpointError(f"its weights share memory, and have more than {most_bytes} bytes without; {RESAVE}")


def _own(name: str, value: Tensor) -> Tensor:
    """The values in memory of their own; once float32, each of them is a number."""
    finite = torch.isfinite(value.float())
    if not bool(finite.all()):
        wrong = ~finite.flatten()
        first = torch.unravel_index(wrong.view(torch.uint8).argmax(), value.shape)
        raise CheckpointError(
            f"{quoted(name)} holds NaN or Infinity, or what float32 cannot hold, in {int(wrong.sum())} of its "
            f"{value.numel()} places, first at {[int(index) for index in first]}; save it from before training diverged"
        )
    return value.detach().clone(memory_format=torch.contiguous_format)


def _precision(weights: dict[str, Tensor]) -> tuple[str, ...]:
    others = {str(value.dtype).removeprefix("torch.") for value in weights.values()} - {"float32"}
    return (f"Some or all weights are {' and '.join(sorted(others))}; float32 is what is served.",) if others else ()
