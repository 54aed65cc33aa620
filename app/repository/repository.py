"""`Repository`: the folder of models, each loaded or with the reason why not."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import structlog
import torch

from app.errors import AppError, ManifestError, ModelNotFound, ModelUnavailable, NotReady, VersionNotFound
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
        """Why that version is unavailable."""
        return self.reasons.get(self.version(version)) or self.reasons.get(None)


class Repository:
    """Reads `models/`: every folder with a `model.toml` is a model, every folder in it with weights is a version."""

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
        except AppError as error:
            entry.reasons[version] = str(error)
        except Exception as error:  # a broken model must not stop the others, whatever is wrong with it
            log.exception("model failed to load", model=entry.name, version=version)
            entry.reasons[version] = f"{type(error).__name__} while loading it; the log has the details"
        else:
            log.info("model loaded", model=entry.name, version=version, device=str(self.device))
            return
        log.warning("model unavailable", model=entry.name, version=version, reason=entry.reasons[version])


def _model_folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{manifests.FILE}"))


def _entry(folder: Path) -> Entry:
    versions = sorted((path.parent.name for path in folder.glob(f"*/{FILE}")), key=_age)
    entry = Entry(folder.name, versions, versions[-1] if versions else None)
    if not versions:
        entry.reasons[None] = f"it has no weights: {folder.name}/<version>/{FILE} is missing"
    try:
        pinned = Manifest.read(folder).default_version
    except ManifestError as error:
        entry.reasons[None] = str(error)
        return entry
    if pinned is not None and pinned not in versions:
        entry.reasons[None] = f"its manifest pins version '{pinned}', which has no weights"
    entry.default_version = pinned or entry.default_version
    return entry


def _age(version: str) -> tuple[int, str]:
    """Versions that are numbers sort as numbers, behind all others."""
    return (int(version), version) if version.isdecimal() else (-1, version)
