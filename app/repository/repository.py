"""`Repository`: the folder of models, each loaded or with the reason why not."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import structlog
import torch

from app.errors import AppError, ModelNotFound, ModelUnavailable, NotFound, NotReady, VersionNotFound
from app.repository import manifest as manifests
from app.repository.manifest import Manifest
from app.repository.model import FILE, Model

log = structlog.get_logger(__name__)

State = Literal["ready", "loading", "unavailable"]


@dataclass
class Entry:
    """One model of the folder: what is there, and what of it could be loaded."""

    name: str
    versions: list[str]
    default_version: str | None = None
    loaded: dict[str, Model] = field(default_factory=dict)
    reasons: dict[str | None, str] = field(default_factory=dict)
    """Why a version, or with None the model as a whole, could not be loaded."""

    def version(self, version: str | None) -> str | None:
        """The version named, or the one that answers where none is named; None if there is no version at all.

        Raises:
            VersionNotFound: there is no such version.
        """
        if version is None:
            return self.default_version
        if version not in self.versions:
            have = ", ".join(self.versions) or "none"
            raise VersionNotFound(f"model '{self.name}' has no version '{version}'; it has {have}")
        return version

    def state(self, version: str | None) -> State:
        """Of a version, None for the one that answers by default."""
        if self.version(version) in self.loaded:
            return "ready"
        return "loading" if self.reason(version) is None else "unavailable"

    def reason(self, version: str | None) -> str | None:
        """Why that version is unavailable; None while it is ready or still to be loaded."""
        named = self.version(version)
        return None if named in self.loaded else self.reasons.get(named) or self.reasons.get(None)


class Repository:
    """Reads `models/`: every folder with a `model.toml` is a model, every folder in it with weights is a version.

    Raises:
        NotFound: `models/` is missing, or is no folder.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder = folder
        self.device = device
        self._entries = {entry.name: entry for entry in map(_entry, _model_folders(folder))}

    def load(self) -> None:
        """Load every version of every model; one that fails keeps its reason and stops no other."""
        for entry in self._entries.values():
            for version in entry.versions:
                self._load(entry, version)

    def entries(self) -> list[Entry]:
        """Every model of the folder, by name."""
        return list(self._entries.values())

    def entry(self, name: str) -> Entry:
        """One model of the folder.

        Raises:
            ModelNotFound: there is none of this name.
        """
        if name not in self._entries:
            near = get_close_matches(name, self._entries, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            have = ", ".join(sorted(self._entries)) or "none"
            raise ModelNotFound(f"there is no model '{name}'{hint} This server has: {have}")
        return self._entries[name]

    def model(self, name: str, version: str | None = None) -> Model:
        """A loaded model; without a version, the one that answers by default.

        Raises:
            ModelNotFound: there is none of this name.
            VersionNotFound: it has no such version.
            ModelUnavailable: it could not be loaded; the reason is given.
            NotReady: it is still being loaded.
        """
        entry = self.entry(name)
        chosen = entry.version(version)
        if chosen in entry.loaded:
            return entry.loaded[chosen]
        if reason := entry.reason(version):
            raise ModelUnavailable(f"model '{name}' is unavailable: {reason}")
        raise NotReady(f"model '{name}' is still being loaded")

    def _load(self, entry: Entry, version: str) -> None:
        try:
            entry.loaded[version] = Model.load(self._folder / entry.name, version, self.device)
        except Exception as error:  # noqa: BLE001 - a broken model must not stop the others, whatever is wrong with it
            entry.reasons[version] = _reason(error, entry.name, version)
        else:
            method = entry.loaded[version].trace_method  # the probe runs here, not at the first request
            log.info("model loaded", model=entry.name, version=version, device=str(self.device), trace_method=method)
            return
        log.warning("model unavailable", model=entry.name, version=version, reason=entry.reasons[version])


def _model_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NotFound(f"the folder of models '{folder}' {'is no folder' if folder.exists() else 'does not exist'}")
    return _folders_with(manifests.FILE, folder)


def _folders_with(file: str, folder: Path) -> list[Path]:
    """Every folder in this one that has such a file, or cannot be looked into: what is hidden must not go missing."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and _may_have(file, path))


def _may_have(file: str, folder: Path) -> bool:
    try:
        return (folder / file).exists()
    except OSError:
        return True


def _entry(folder: Path) -> Entry:
    entry = Entry(folder.name, [])
    try:
        _describe(entry, folder)
    except Exception as error:  # noqa: BLE001 - as when it is loaded
        entry.reasons[None] = _reason(error, folder.name)
    return entry


def _describe(entry: Entry, folder: Path) -> None:
    entry.versions = sorted((path.name for path in _folders_with(FILE, folder)), key=_age)
    if entry.versions:
        entry.default_version = entry.versions[-1]
    else:
        entry.reasons[None] = f"it has no weights: {folder.name}/<version>/{FILE} is missing"
    pinned = Manifest.read(folder).default_version
    if pinned is not None and pinned not in entry.versions:
        entry.reasons[pinned] = f"its manifest pins version '{pinned}', which has no weights"
    entry.default_version = pinned or entry.default_version


def _reason(error: Exception, model: str, version: str | None = None) -> str:
    """What ModelInfo says of this error; of one that nobody foresaw, the log says all."""
    if isinstance(error, AppError):
        return str(error)
    if isinstance(error, OSError):
        return f"{model} cannot be read: {error.strerror}"
    log.error("model failed to load", model=model, version=version, exc_info=error)
    return f"{type(error).__name__} while loading it; the log has the details"


def _age(version: str) -> tuple[int, str]:
    """Versions that are numbers sort as numbers, behind all others."""
    return (int(version), version) if version.isdecimal() else (-1, version)
