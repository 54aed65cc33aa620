"""The calls for stored traces: computed once, looked at many times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from gatescope import dataset
from gatescope.client.body import SAFETENSORS, encode
from gatescope.client.call import Call, path
from gatescope.client.endpoints import to_dataset
from gatescope.client.fields import Array, Asked, written
from gatescope.client.reading import in_one
from gatescope.client.reply import fields, json, nothing
from gatescope.errors import TraceNotFound

if TYPE_CHECKING:
    import xarray


class Viewed(TypedDict, total=False):
    """Which part of a stored trace is wanted, and how coarse."""

    signals: list[str] | None
    layers: Array | None
    directions: list[Literal["forward", "reverse"]] | None
    units: Array | slice | str | None
    sequence: int | None
    start: int | None
    stop: int | None
    bins: int | None
    reduce: Literal["mean", "min", "max"] | None


def store_trace(model: str, inputs: Array | None = None, **asked: Unpack[Asked]) -> Call[dict[str, Any]]:
    """Compute a trace of everything and keep it there: its `trace_id`, `shape`, `bytes` and `expires_at`.

    It is never sent twice: both traces would be kept.

    Args:
        model: its name.
        inputs: as for `predict`.
        **asked: as for `predict`.

    Raises:
        InvalidInput: something does not fit the model; `places` say what and where.
        AppError: what else the server refuses.
    """
    given, rest = in_one(inputs, asked)
    named = {"model": model, "version": asked.get("version"), "inputs": given}
    return Call("POST", path("traces"), json, encode(named | written(rest)), repeatable=False)


def stored_trace(trace_id: str) -> Call[dict[str, Any]]:
    """What was computed beside the signals: a trace reply without them.

    Raises:
        TraceNotFound: it is not kept any more.
    """
    return Call("GET", path("traces", trace_id), json)


def trace_values(trace_id: str, **view: Unpack[Viewed]) -> Call[xarray.Dataset]:
    """A part of a stored trace, or with `bins` a picture of it: time cut into equal spans, each reduced to one value.

    Args:
        trace_id: as `store_trace` gave it.
        **view: which part, as for `trace`, but `start` and `stop` for the time, and one `sequence` alone; how many
            `bins`, and whether each is to `reduce` to the mean, min or max.

    Raises:
        ModuleNotFoundError: xarray is not installed.
        TraceNotFound: it is not kept any more.
        InvalidInput: it has no such part.
    """
    dataset.need()
    parameters = {name: _listed(value) for name, value in written(view).items() if value is not None}
    where = path("traces", trace_id, "values")
    return Call("GET", where, fields, accept=SAFETENSORS, parameters=parameters, finish=to_dataset)


def delete_trace(trace_id: str) -> Call[None]:
    """Keep it no more.

    Raises:
        TraceNotFound: it was not kept any more.
    """
    return Call("DELETE", path("traces", trace_id), nothing, done_if=TraceNotFound)


def _listed(value: Any) -> Any:
    """As it stands in a query: lists with commas."""
    return value if isinstance(value, str | int) else ",".join(map(str, value))
