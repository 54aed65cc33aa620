"""How often the host waits for the device during one trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import library
from benchmarks.device.report import Row, Section
from benchmarks.trace import Shape

WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")

CASES = {
    "one layer": (Shape(100, 8, 128), None),
    "one layer, ragged": (Shape(100, 8, 128), [100, 90, 80, 70, 60, 50, 40, 30]),
    "2 layers, both directions": (Shape(100, 8, 128, 2, 2), None),
    "2 layers, both directions, ragged": (Shape(100, 8, 128, 2, 2), [100, 90, 80, 70, 60, 50, 40, 30]),
}


def measure(device: str) -> Section:
    """One row for each case; on the CPU there is nothing to wait for."""
    title = "Host synchronisations of one trace"
    if device == "cpu":
        return Section("synchronisations", title, [], "Not applicable on the CPU: there is no device to wait for.")
    rows = [_row(case) for case in CASES]
    note = (
        "Counted by `torch.cuda.set_sync_debug_mode`, and by the profiler as calls of the CUDA runtime "
        f"({', '.join(WAITS)}), which copies from pageable memory make, too. Inputs lie on the device."
    )
    return Section("synchronisations", title, rows, note)


def _row(case: str) -> Row:
    shape, lengths = CASES[case]
    module, inputs = shape.made("cuda")

    def run() -> None:
        library.trace(module, inputs, lengths)

    run()
    torch.cuda.synchronize()
    warned = _warned(run)
    calls = _profiled(run)
    return {
        "case": case,
        "backend": library.backend_of(module),
        "sync debug mode": warned,
        "profiler, waits": None if calls is None else sum(calls.get(name, 0) for name in WAITS),
        "profiler, kernel launches": None if calls is None else sum(calls.get(name, 0) for name in LAUNCHES),
    }


def _warned(run: Callable[[], None]) -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _profiled(run: Callable[[], None]) -> dict[str, int] | None:
    """How often each function of the CUDA runtime was called; None where the profiler cannot see them."""
    try:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            run()
    except RuntimeError:
        return None
    calls = {event.key: int(event.count) for event in profiled.key_averages() if event.key.startswith("cu")}
    return calls or None
