"""Answers to parts of a request as the answer to all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.client.many import renamed
from gatescope.client.prediction import Head, Prediction, State
from gatescope.errors import ModelReplaced

if TYPE_CHECKING:
    import xarray

_LISTS = ("text", "finish_reason", "samples", "tokens", "ids", "timestamps", "prediction_timestamps")
_ARRAYS = ("values", "labels", "probabilities")


def predictions(parts: Sequence[Prediction], names: Sequence[Sequence[str]]) -> Prediction:
    """One prediction of several, whose sequences follow each other.

    Args:
        parts: of one model.
        names: of the sequences of each.

    Raises:
        ModelReplaced: they are of several versions.
    """
    if len(parts) == 1:
        return parts[0]
    _check_versions({part.version for part in parts}, parts[0].model)
    more: dict[str, Any] = {name: _listed([getattr(part, name) for part in parts]) for name in _LISTS}
    more |= {name: _joined([getattr(part, name) for part in parts]) for name in (*_ARRAYS, "output")}
    if any(part.unknown_tokens for part in parts):
        more["unknown_tokens"] = [
            row for part in parts for row in part.unknown_tokens or [[] for _ in part.sequence_lengths]
        ]
    return replace(
        parts[0],
        sequence_lengths=np.concatenate([part.sequence_lengths for part in parts]),
        final_state=_states([part.final_state for part in parts]),
        heads={name: _head([part.heads[name] for part in parts]) for name in parts[0].heads},
        verified=all(part.verified for part in parts),
        notes=_notes(parts, names),
        **more,
    )


def traces(parts: Sequence[xarray.Dataset]) -> xarray.Dataset:
    """One trace of several; its `residual` is the largest.

    Raises:
        ModelReplaced: they are of several versions.
    """
    if len(parts) == 1:
        return parts[0]
    import xarray  # noqa: PLC0415 - whoever has a trace has it

    _check_versions({part.attrs.get("version") for part in parts}, parts[0].attrs.get("model"))
    joined = xarray.concat(
        parts, "batch", data_vars="all", coords="different", compat="equals", join="outer", combine_attrs="override"
    )
    return joined.assign_attrs(residual=max(part.attrs["residual"] for part in parts))


def _check_versions(versions: set[Any], model: Any) -> None:
    if len(versions) > 1:
        told = ", ".join(sorted(map(str, versions)))
        raise ModelReplaced(
            f"model '{model}' was replaced on the way, versions {told} answered: ask again, or say which"
        )


def _listed(parts: Sequence[list[Any] | None]) -> list[Any] | None:
    return None if parts[0] is None else [row for part in parts for row in part or ()]


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """One batch of several; shorter ones are padded, as `Prediction` says."""
    arrays = [part for part in parts if part is not None]
    if not arrays:
        return None
    is_number = arrays[0].dtype.kind == "f"
    if arrays[0].ndim == (2 if is_number else 1):
        return np.concatenate(arrays)
    longest, filling = max(array.shape[1] for array in arrays), np.nan if is_number else ""
    padded = []
    for array in arrays:
        widths = [(0, 0), (0, longest - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]
        padded.append(np.pad(array, widths, constant_values=filling))
    return np.concatenate(padded)


def _head(parts: Sequence[Head]) -> Head:
    return Head(*(_joined([getattr(part, name) for part in parts]) for name in _ARRAYS))  # type: ignore[arg-type]


def _states(parts: Sequence[Any]) -> Any:
    if parts[0] is None:
        return None
    if isinstance(parts[0], dict):
        return {name: _states([part[name] for part in parts]) for name in parts[0]}
    return State(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))


def _notes(parts: Sequence[Prediction], names: Sequence[Sequence[str]]) -> list[Mapping[str, Any]]:
    """Those of all, each with the names of the sequences that it is about; what is said of the model once."""
    made: list[Mapping[str, Any]] = []
    for part, own in zip(parts, names, strict=True):
        for note in part.notes:
            if note["code"] == "unverified":
                made += [] if note in made else [note]
                continue
            which = f"'{own[0]}'" if len(own) == 1 else f"'{own[0]}' to '{own[-1]}'"
            place = {"loc": [*renamed(tuple(note["loc"]), own)]} if "loc" in note else {}
            made.append({**note, "message": f"{which}: {note['message']}", **place})
    return made
