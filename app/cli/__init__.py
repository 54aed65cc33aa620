"""The command `gatescope`: serve models, ask them from a terminal or a script, and bring new ones in."""

from app.cli import ask, checkpoint, serve
from app.cli.command import cli, main

__all__ = ["ask", "checkpoint", "cli", "main", "serve"]
