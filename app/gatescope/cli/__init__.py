"""The command `gatescope`: serve models, ask them from a terminal or a script, and bring new ones in."""

from gatescope.cli import ask, checkpoint, serve
from gatescope.cli.command import cli, main

__all__ = ["ask", "checkpoint", "cli", "main", "serve"]
