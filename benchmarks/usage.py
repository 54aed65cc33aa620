"""What a process uses, as Linux tells it in `/proc`."""

from __future__ import annotations

import os
from pathlib import Path

_USER, _SYSTEM = 11, 12  # fields of `stat`, counted from the one behind the name


def rss_mb(pid: int) -> float:
    """Resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main_thread_cpu_s(pid: int) -> float:
    """CPU time of the first thread, on which a server's event loop runs; to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / os.sysconf("SC_CLK_TCK")
