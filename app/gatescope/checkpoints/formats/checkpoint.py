"""`Checkpoint`: the weights in a file that somebody's training script saved, read without running or trusting it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gatescope.checkpoints.formats import (
    archive,
    beside,
    legacy,
    reparametrized,
    safetensors_header,
    shards,
    state_dict,
    wrappers,
)
from gatescope.checkpoints.formats.plain import Entries
from gatescope.errors import CheckpointError
from gatescope.names import RESAVE, listed, printable, quoted
from gatescope.pipeline.finite import is_finite
from gatescope.pipeline.stored_tensors import Loader, StoredTensor
from gatescope.source import Source, opened

MOST_BYTES = 2 * 2**30

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

FIRST_BYTES = 64
GIT_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Checkpoint:
    """Weights under the names that the module gave them: finite, floating-point, dense, each in memory of its own."""

    weights: dict[str, Tensor]
    notes: tuple[str, ...]
    """What was unwrapped, put together or left out, one sentence each."""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """The plain data that stood beside the weights at every level; of one name, the outermost. See `formats.beside`."""


class _Saved(NamedTuple):
    """What was saved, the texts of a safetensors file, and notes."""

    content: Any
    texts: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()


def read(path: Path, most_bytes: int = MOST_BYTES) -> Checkpoint:
    """The weights in a file of `torch.save` (of any age), in safetensors, or in the parts that an index names.

    The content says what a file is, not its name. Nothing in it is executed or imported, and what it declares is held
    against its length before memory is taken for it. Files that are read later may change: weights are copies.

    Raises:
        CheckpointError: it cannot be read, is larger than `most_bytes`, is not safe to read, or holds no weights.
    """
    try:
        shards.refuse_part(path.name)
        with ExitStack() as files:
            return _weights(_saved(path, most_bytes, files), most_bytes)
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path.name or str(path))}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{printable(path.name)}: it cannot be read: {error.strerror or error}") from None


def _weights(saved: _Saved, most_bytes: int) -> Checkpoint:
    """Find, read, put together and rename them."""
    found = state_dict.find(saved.content)
    floating, left_out = _floating(found.tensors)
    stored, unmasked = reparametrized.unmask(floating)
    _check_size(stored, most_bytes)
    loaded = _loaded(stored)
    whole, folded = reparametrized.fold(loaded)
    for name, value in whole.items():
        if loaded.get(name) is not value and not is_finite(value):
            raise _not_finite(name, value)
    names, unwrapped = wrappers.unwrap(whole)
    weights = {names[name]: value for name, value in whole.items()}
    plain, too_large = beside.plain((*found.beside, *saved.texts.items()))
    large = (f"Too large to be looked at: {listed(too_large)}.",) if too_large else ()
    changed = (*left_out, *unmasked, *folded, *unwrapped)
    return Checkpoint(weights, (*saved.notes, *found.notes, *large, *changed, *_precision(weights)), plain)


def _saved(path: Path, most_bytes: int, files: ExitStack) -> _Saved:
    """What was saved; the files stay open for the weights to be read."""
    source = files.enter_context(opened(path, most_bytes))
    if shards.is_index(source.at(0, FIRST_BYTES)):
        return _parts(path.parent, shards.read_index(source), most_bytes, files)
    return _content(source)


def _content(source: Source) -> _Saved:
    begins = source.at(0, FIRST_BYTES)
    if begins.startswith(archive.BEGINS):
        return _Saved(archive.read(source))
    if begins[8:9] == b"{":  # the length before it may begin like a pickle
        return _Saved(*safetensors_header.read(source))
    if begins.startswith(legacy.BEGINS):
        return _Saved(legacy.read(source))
    known = (
        "give a file of torch.save (.pt, .pth, .ckpt, .bin) or torch.export (.pt2), a .safetensors or .onnx file, or a "
        ".keras or .h5 file of Keras"
    )
    if not begins:
        raise CheckpointError(f"it is empty; {known}")
    if begins.startswith(GIT_LFS):
        raise CheckpointError("it is a pointer of Git LFS, not the file itself; fetch it with git lfs pull")
    raise CheckpointError(f"it begins with {begins[:8]!r}, like no checkpoint; {known}")


def _parts(folder: Path, parts: dict[str, list[str]], most_bytes: int, files: ExitStack) -> _Saved:
    """The weights that an index names, from all of its parts."""
    content = Entries()
    texts: dict[str, Any] = {}
    unnamed: list[str] = []
    for part, names in parts.items():
        try:
            source = files.enter_context(opened(folder / part, most_bytes))
            saved = _content(source)
        except CheckpointError as error:
            raise CheckpointError(f"its part {quoted(part)}: {error}") from None
        most_bytes -= source.size
        held = saved.content.named if isinstance(saved.content, Entries) else {}
        if missing := [name for name in names if name not in held]:
            raise CheckpointError(f"its part {quoted(part)} does not hold {listed(missing)}, as the index says")
        content.named |= {name: held[name] for name in names}
        texts = {**saved.texts, **texts}
        unnamed += held.keys() - set(names)
    notes = (f"Not read, because the index does not name them: {listed(sorted(unnamed))}.",) if unnamed else ()
    return _Saved(content, texts, (f"Read from {len(parts)} parts: {listed(list(parts))}.", *notes))


def _floating(tensors: dict[str, StoredTensor]) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """The tensors that may be weights, and a note of the buffers that cannot."""
    floating: dict[str, StoredTensor] = {}
    others: list[str] = []
    for name, value in tensors.items():
        if not name.isprintable():
            raise CheckpointError(f"{quoted(name)} is no name of a weight; {RESAVE}")
        if value.dtype in DTYPES and value.numel:
            floating[name] = value
        elif state_dict.is_parameter(name):
            raise CheckpointError(f"{quoted(name)} holds {_kind(value)}; save the module as it was trained, in float32")
        else:
            others.append(name)
    if not floating:
        raise CheckpointError(f"it holds no floating-point weights, only {listed(others)}; {RESAVE}")
    return floating, (f"Left out, because they are no floating-point numbers: {listed(others)}.",) if others else ()


def _kind(value: StoredTensor) -> str:
    if not value.numel:
        return f"no numbers, its shape is {list(value.shape)}"
    is_short = value.dtype.is_floating_point
    return f"{value.dtype}, {'a precision that is not served' if is_short else 'not floating-point numbers'}"


def _check_size(stored: dict[str, StoredTensor], most_bytes: int) -> None:
    for value in stored.values():
        value.check_expanded()
    if sum(value.nbytes for value in stored.values()) > most_bytes:
        raise CheckpointError(f"its weights share memory, and have more than {most_bytes} bytes without; {RESAVE}")


def _loaded(stored: dict[str, StoredTensor]) -> dict[str, Tensor]:
    loader = Loader()
    loaded: dict[str, Tensor] = {}
    for name, value in stored.items():
        loaded[name], finite = loader.load(value)
        if not finite:
            raise _not_finite(name, loaded[name])
    return loaded


def _not_finite(name: str, value: Tensor) -> CheckpointError:
    wrong = ~torch.isfinite(value.float()).flatten()
    first = torch.unravel_index(wrong.view(torch.uint8).argmax(), value.shape)
    return CheckpointError(
        f"{quoted(name)} holds NaN or Infinity, or what float32 cannot hold, in {int(wrong.sum())} of its "
        f"{value.numel()} places, first at {[int(index) for index in first]}; save it from before training diverged"
    )


def _precision(weights: dict[str, Tensor]) -> tuple[str, ...]:
    others = {str(value.dtype).removeprefix("torch.") for value in weights.values()} - {"float32"}
    return (f"Some or all weights are {' and '.join(sorted(others))}; float32 is what is served.",) if others else ()
