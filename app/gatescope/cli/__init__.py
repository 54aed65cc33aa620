"""The command `gatescope`: serve models, ask them from a terminal or a script, and bring new ones in.

Each subcommand imports what it needs when it is called, so that `gatescope --help` answers at once, and a model can be
asked over HTTP where no server is installed.
"""

from __future__ import annotations

import sys

from gatescope import extras


def main() -> None:
    """Run the command. An error that is raised on purpose is one line and exit status 1."""
    try:
        from gatescope.cli.commands import run

        run()
    except ModuleNotFoundError as error:
        if (line := extras.missing(error)) is None:
            raise
        sys.stderr.write(f"gatescope: {line}\n")
        sys.exit(1)
