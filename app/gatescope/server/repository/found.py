"""`Found`: what lies in the folder of models, with a stamp per version that changes whenever one of its files does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from gatescope.errors import NotFound, Unavailable
from gatescope.pipeline import manifest_file, sample
from gatescope.pipeline.manifest_file import read_manifest
from gatescope.pipeline.model import FILE, VERSION_FILES, folders_with, versions_in
from gatescope.server.repository.reason import reason_of

Stamp = tuple[object, ...]
"""Of some files: device, inode, size and times of each. The time of the last change of status cannot be set by hand."""


@dataclass(frozen=True)
class Found:
    """One model's folder as it lies there, without looking into weights."""

    versions: Mapping[str, Stamp] | None = field(default_factory=dict)
    """A stamp of all that each version is made of, the oldest first; None where the folder cannot be looked into."""

    pinned: str | None = None
    """The version that the manifest wants to answer where none is named."""

    problem: str | None = None
    """What is wrong with the model as a whole."""


@dataclass(frozen=True)
class _Stated:
    """What a manifest says that matters before anything is loaded."""

    pinned: str | None = None
    files: tuple[str, ...] = ()
    problem: str | None = None


def look(folder: Path) -> dict[str, Found]:
    """Every model of the folder, by name: each folder in it with a `model.toml`, unless its name begins with a dot.

    Raises:
        NotFound: `folder` is missing, or is no folder.
        Unavailable: it cannot be read.
    """
    try:
        if not folder.is_dir():
            raise NotFound(f"the folder of models '{folder}' {'is no folder' if folder.exists() else 'does not exist'}")
        return {path.name: look_at(path) for path in folders_with((manifest_file.FILE,), folder)}
    except OSError as error:
        raise Unavailable(f"the folder of models '{folder}' cannot be read: {error.strerror}") from error


def look_at(folder: Path) -> Found:
    """What lies in one model's folder."""
    try:
        versions = versions_in(folder)
    except OSError as error:
        return Found(None, problem=reason_of(error, folder.name))
    manifest = _stamp(folder / manifest_file.FILE)
    stated = _stated_or_problem(folder, manifest)
    shared = (manifest, *(_stamp(folder / file) for file in stated.files))
    own = (*VERSION_FILES, sample.FILE)
    stamps = {version: (*shared, *(_stamp(folder / version / file) for file in own)) for version in versions}
    problem = stated.problem
    if problem is None and not versions:
        problem = f"it has no weights: {folder.name}/<version>/{FILE} is missing"
    if problem is None and stated.pinned is not None and stated.pinned not in stamps:
        problem = f"its manifest pins version '{stated.pinned}', which has no weights"
    return Found(stamps, stated.pinned, problem)


def _stated_or_problem(folder: Path, stamp: Stamp) -> _Stated:
    try:
        return _stated(folder, stamp)
    except Exception as error:  # noqa: BLE001 - a broken model must not stop the others, whatever is wrong with it
        return _Stated(problem=reason_of(error, folder.name))


@lru_cache(maxsize=4096)
def _stated(folder: Path, _: Stamp) -> _Stated:
    """What the manifest with this stamp says; it is looked at often, and seldom changes."""
    manifest = read_manifest(folder)
    return _Stated(manifest.default_version, manifest.files)


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError as error:
        return (error.errno,)
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
