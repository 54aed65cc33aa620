"""The console that commands print on."""

from __future__ import annotations

import sys

from rich.console import Console

FILE_WIDTH = 140
"""Characters, where there is no terminal that says how wide it is."""


def console() -> Console:
    """As wide as the terminal, or as a table needs."""
    return Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
