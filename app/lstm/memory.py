"""Memory that is freed and wanted again: tell glibc to keep it.

A trace allocates megabytes at each call. By default glibc maps large blocks afresh and gives freed memory back to the
system, and touching fresh pages costs as much as the arithmetic (`docs/performance.md` has the figures). With these
settings freed memory stays with the process, up to a bound, and is handed out again as it is.
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of mallopt(3)
KEPT_BYTES = 512 * 1024 * 1024


def keep_freed() -> None:
    """Keep up to `KEPT_BYTES` of freed memory for the next trace, whichever thread freed it; does nothing off glibc."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_ARENA_MAX, 1)
