"""`Checkout`: a working tree of this project, of whichever commit, and how its package and command are called."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


class NoCheckout(Exception):
    """A folder holds no working tree of this project."""


@dataclass(frozen=True)
class Checkout:
    """One working tree.

    Raises:
        NoCheckout: there is no package in it.
    """

    root: Path

    def __post_init__(self) -> None:
        if not any((self.root / place / "__init__.py").is_file() for place in ("app/gatescope", "app")):
            raise NoCheckout(f"{self.root} has neither the package app/gatescope nor app")

    @property
    def package(self) -> str:
        """`gatescope`, or `app` in commits before it was renamed."""
        return "gatescope" if (self.root / "app" / "gatescope").is_dir() else "app"

    @property
    def source(self) -> Path:
        """The folder that the package is imported from."""
        return self.root / "app" if self.package == "gatescope" else self.root

    @property
    def command(self) -> list[str]:
        """What starts `gatescope`, to be followed by its arguments; it needs `environment`."""
        # -P: the folder that a benchmark is started in must not be imported from
        return [sys.executable, "-P", "-c", f"from {self.package}.cli import main; main()"]

    @property
    def environment(self) -> dict[str, str]:
        """What its processes need."""
        return {"PYTHONPATH": search_path(self.source)}


def search_path(*first: Path) -> str:
    """`PYTHONPATH` with these folders before what stands there."""
    given = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([*map(str, first), *([given] if given else [])])


HERE = Checkout(Path(__file__).resolve().parents[1])
"""The working tree that these benchmarks are of."""
