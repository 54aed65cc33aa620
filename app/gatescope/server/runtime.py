"""Process-wide tuning of a process that does nothing but serve. Entry points call it; importing changes nothing."""

from __future__ import annotations

import ctypes
import gc
import platform
import sys
import warnings

import torch

from gatescope.server.gil import TURN_S

KEPT_BYTES = 512 * 1024 * 1024
"""Freed memory that stays with the process for the next trace."""

COLLECTOR_THRESHOLD = 50_000
"""Objects made and not freed until the collector looks for cycles among the new ones."""

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of mallopt(3)


def configure_process() -> None:
    """Set the allocator and the warning filters, before any model is loaded."""
    _keep_freed_memory()
    # true, and nothing that an operator could change: projections run on the default kernel
    warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
    # TF32 keeps ten bits of a mantissa: predictions would be off in the fourth digit, and traces with them
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def settle() -> None:
    """Keep interruptions of requests short, once the models are loaded.

    What exists now stays, so the collector need not look at it again. A thread waits at most `TURN_S` for the
    interpreter while the event loop is busy.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTOR_THRESHOLD, 50, 50)
    sys.setswitchinterval(TURN_S)


def _keep_freed_memory() -> None:
    """Tell glibc to keep up to `KEPT_BYTES` of freed memory, whichever thread freed it; does nothing off glibc.

    A trace allocates megabytes at each call. By default glibc maps large blocks afresh and gives freed memory back to
    the system, and touching fresh pages costs as much as the arithmetic (`docs/performance.md` has the figures).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_ARENA_MAX, 1)
