"""The internal names of the measured package, in one place, whichever commit it is of.

Every benchmark that needs more than the public API takes it from here. The package is `gatescope`, unless the
environment names another one: commits before its renaming call it `app` (`compare` runs one process for each checkout).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PACKAGE_VARIABLE = "BENCHMARKS_PACKAGE"
PACKAGE = os.environ.get(PACKAGE_VARIABLE, "gatescope")

_PLACES: Mapping[str, tuple[str, ...]] = {
    "Chunk": ("gatescope.server.serving.chunking.Chunk", "app.serving.chunks.Chunk"),
    "Engine": ("gatescope.server.serving.local.LocalEngine", "app.serving.engine.LocalEngine"),
    "MemoryStore": (
        "gatescope.server.serving.session_stores.memory.MemoryStore",
        "app.serving.stores.memory.MemoryStore",
    ),
    "Parameters": ("gatescope.backends.parameters.Parameters", "app.lstm.parameters.Parameters"),
    "Query": ("gatescope.pipeline.query.Query", "app.pipeline.query.Query"),
    "Repository": ("gatescope.server.repository.repository.Repository", "app.repository.repository.Repository"),
    "SIGNALS": ("gatescope.cells.LSTM", "app.lstm.selection.SIGNALS"),
    "Selection": ("gatescope.selection.Selection", "app.lstm.selection.Selection"),
    "Sessions": ("gatescope.server.serving.sessions.Sessions", "app.serving.sessions.Sessions"),
    "Spec": ("gatescope.spec.Spec", "app.lstm.spec.LSTMSpec"),
    "State": ("gatescope.state.State", "app.lstm.state.State"),
    "codecs": ("gatescope.server.api.codecs.CODECS",),
    "configure_logs": ("gatescope.server.logs.configure", "app.logs.configure"),
    "configure_process": ("gatescope.server.runtime.configure_process", "app.lstm.memory.keep_freed"),
    "forward": ("gatescope.forward.forward", "app.lstm.forward.forward"),
    "ndjson": ("gatescope.server.api.codecs.ndjson", "gatescope.server.api.ndjson", "app.api.ndjson"),
    "probe": ("gatescope.backends.probe", "app.lstm.method"),
    "quiet_logs": ("gatescope.server.logs.quiet", "app.logs.quiet"),
    "reference_run": ("gatescope.backends.reference.run", "app.lstm.equations.run"),
    "reply": ("gatescope.server.api.reply", "app.api.reply"),
    "trace": ("gatescope.trace", "app.lstm.trace.trace"),
}
"""Where each name stands, the newest place first."""


class NotThere(Exception):
    """The measured package has no such name: it is of a commit that this module does not know."""


@cache
def find(name: str) -> Any:
    """One of `_PLACES`, from the first place that exists in the measured package."""
    places = [place for place in _PLACES[name] if place.startswith(f"{PACKAGE}.")]
    for place in places:
        module, _, attribute = place.rpartition(".")
        try:
            found = import_module(module)
            return getattr(found, attribute) if hasattr(found, attribute) else import_module(place)
        except ImportError:
            continue
    raise NotThere(f"there is none of {', '.join(places)}")


def folder() -> Path:
    """Where the measured package lies."""
    return Path(str(import_module(PACKAGE).__file__)).resolve().parent


def tune_process() -> None:
    """Tune this process as `gatescope serve` does: freed memory is kept for the next trace."""
    find("configure_process")()


def quiet() -> None:
    """Keep the log for what goes wrong."""
    find("configure_logs")("console")
    find("quiet_logs")()


def trace(*given: Any, **named: Any) -> Any:
    """`gatescope.trace`."""
    return find("trace")(*given, **named)


def predict(module: nn.LSTM, inputs: Tensor, *, lengths: Tensor, ragged: bool) -> Callable[[], object]:
    """What the service calls for a prediction: the output alone, from zero states; ready to run."""
    forward, state = find("forward"), zeros(module, inputs)
    return lambda: forward(module, inputs, lengths, state, ragged=ragged)


def zeros(module: nn.LSTM, inputs: Tensor) -> Any:
    """The states that `nn.LSTM` starts from."""
    return find("State").zeros(find("Spec").from_module(module), len(inputs), inputs)


def signals() -> tuple[str, ...]:
    """The names of the six signals."""
    found = find("SIGNALS")
    return tuple(getattr(found, "signal_names", found))


def every_signal(module: nn.RNNBase) -> Any:
    """The selection of all signals, also of those that a trace holds only on request."""
    return find("Selection")(signals=find("Spec").from_module(module).cell.signal_names)


def encoders(answer: dict[str, Any], lengths: list[int]) -> dict[str, Callable[[], object]]:
    """Each writes a trace's reply in one format.

    Args:
        answer: `time_steps`, `sequence_lengths` and `signals`, of NumPy arrays.
        lengths: how many steps each sequence has.
    """
    ndjson = find("ndjson")
    tensors = {name: torch.from_numpy(values) for name, values in answer["signals"].items()}
    chunk = find("Chunk")(list(range(len(lengths))), answer["time_steps"], tensors)
    return {
        "JSON": partial(_writer("application/json"), answer),
        "ndjson": lambda: [len(piece) for piece in ndjson.steps(chunk, lengths)],
        "safetensors": partial(_writer("application/vnd.safetensors"), answer),
        "npz": partial(_writer("application/x-npz"), answer),
    }


def _writer(media_type: str) -> Callable[[dict[str, Any]], object]:
    """What writes a trace's reply in this format; older packages have one function for all formats."""
    try:
        codecs = find("codecs")
    except NotThere:
        return partial(find("reply").pieces, media_type=media_type)
    codec = next(codec for codec in codecs if codec.media_type == media_type)
    write: Callable[[dict[str, Any]], object] = codec.encode_pieces
    return write


def engine(models: Path, max_queue_size: int, max_batch_size: int) -> Any:
    """The engine of the service on the CPU; it must be started."""
    return find("Engine")(find("Repository")(models, torch.device("cpu")), max_queue_size, max_batch_size)


def sessions(running: Any, most: int, timeout_s: float) -> Any:
    """Sessions over an engine, kept in memory."""
    return find("Sessions")(running, find("MemoryStore")(most), timeout_s)


def query(inputs: Tensor) -> Any:
    """For a batch (batch, time, feature) without padding."""
    batch, time, _ = inputs.shape
    return find("Query")(inputs, torch.full((batch,), time))


def backends() -> tuple[str, ...]:
    """The names of all trace backends, the fastest first."""
    probe = find("probe")
    return tuple(probe.BACKENDS if PACKAGE == "gatescope" else probe.METHODS)


def backend_of(module: nn.RNNBase) -> str:
    """The backend that this module's traces take."""
    probe = find("probe")
    return str((probe.backend_of if PACKAGE == "gatescope" else probe.method_of)(module))


def forget_probes() -> None:
    """Every backend is probed anew when it is next wanted: what a probe found may hang on PyTorch's settings."""
    probe = find("probe")
    (probe._is_proved if PACKAGE == "gatescope" else probe._proved).cache_clear()  # noqa: SLF001 - there is no public way


def can_run(backend: str, module: nn.LSTM) -> bool:
    """Whether the backend is made for such a module on such a device at all."""
    parameters = find("Parameters").of(module)
    if PACKAGE == "gatescope" and any(backend not in kind.cell.backends for kind in parameters.kinds):
        return False
    return backend != "workspace" or bool(parameters.is_onednn if PACKAGE == "gatescope" else parameters.are_onednns)


@contextmanager
def forced(backend: str) -> Iterator[None]:
    """All traces take this backend, whatever its probe says; what is disabled meanwhile is enabled after."""
    probe = find("probe")
    given_up = probe._disabled if PACKAGE == "gatescope" else probe._distrusted  # noqa: SLF001 - there is no public way
    fastest, disabled = probe.fastest, set(given_up)
    probe.fastest = lambda *_: backend
    try:
        yield
    finally:
        probe.fastest = fastest
        given_up.intersection_update(disabled)


def reference(module: nn.LSTM, sequence: Tensor) -> dict[str, Tensor]:
    """Every signal (layer, direction, time, unit) and `output` (time, unit) of one sequence, by the equations."""
    run: dict[str, Tensor] = find("reference_run")(module, sequence)
    return run
