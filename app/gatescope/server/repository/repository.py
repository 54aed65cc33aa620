"""`Repository`: the folder of models, each loaded or with the reason why not, kept up with what lies on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import structlog
import torch

from gatescope.errors import AppError, ModelError, ModelNotFound, ModelUnavailable, NotReady, WeightsError
from gatescope.pipeline.model import Model
from gatescope.server.repository.entry import Entry, Version, default_version
from gatescope.server.repository.found import Found, Stamp, look, look_at
from gatescope.server.repository.reason import reason_of

log = structlog.get_logger(__name__)

UNLOADED = "it was unloaded"


class Repository:
    """Reads `models/`: every folder with a `model.toml` is a model, every folder in it with weights is a version.

    What changes it belongs on one thread; any thread may ask at any time. An `Entry` is a snapshot, and a new one takes
    its place by one assignment.

    Args:
        folder: `models/`.
        device: where the models live.
        allow_code: whether a manifest may name a factory, that is, have code run.
        only: the models that are loaded; all of them by default.

    Raises:
        NotFound: `models/` is missing, or is no folder.
    """

    def __init__(
        self, folder: Path, device: torch.device, *, allow_code: bool = False, only: Collection[str] | None = None
    ) -> None:
        self.folder = folder
        self.device = device
        self.allow_code = allow_code
        self._only = only
        self.warm: Callable[[Model], None] = Model.warm
        """Makes a loaded model ready to answer; an engine does it where it computes."""
        self._seen = look(folder)
        self._entries = {name: _noted(Entry(name), found) for name, found in self._seen.items()}
        self._unreadable = ""
        self._closed = threading.Event()

    def load(self) -> None:
        """Load every version of every model; one that fails keeps its reason and stops no other."""
        for name, found in self._seen.items():
            if self._only is None or name in self._only:
                self._keep_up(name, found)

    def refresh(self) -> bool:
        """Load what is new or has changed on disk, beside what serves, and unload what is gone.

        A model whose files are not as they were at the last look is left alone: they may be half-written.

        Returns:
            Whether there is such a model: look again soon.
        """
        try:
            seen, before = look(self.folder), self._seen
        except AppError as error:
            self._note_unreadable(str(error))
            return False
        self._seen, self._unreadable = seen, ""
        names = seen.keys() | before.keys()
        steady = [name for name in sorted(names) if seen.get(name) == before.get(name)]
        for name in steady:
            self._keep_up(name, seen[name])
        self._forget(self._entries.keys() - names)
        return len(steady) < len(names)

    def load_model(self, name: str, version: str | None = None) -> Entry:
        """Read this version of a model, or all of them, anew; where that fails, what served before goes on.

        Raises:
            ModelNotFound: there is no such model in the folder.
            VersionNotFound: it has no such version.
            ModelError: it cannot be loaded.
        """
        seen = look(self.folder)
        if name not in seen:
            self._forget({name})
            return self.entry(name)
        self._seen = {**self._seen, name: seen[name]}
        self._keep_up(name, seen[name], anew=seen[name].versions or () if version is None else [version])
        entry = self.entry(name)
        asked = entry.versions if version is None else [version]
        reasons = [f"version '{asked}': {reason}" for asked in asked if (reason := entry.reason(asked))]
        if version is None and entry.problem is not None:
            reasons = [entry.problem]
        if reasons:
            raise ModelError(f"model '{name}' could not be loaded: {'; '.join(reasons)}")
        return entry

    def unload_model(self, name: str, version: str | None = None) -> Entry:
        """Serve this version of a model, or all of them, no more until it is loaded again or its files change.

        Raises:
            ModelNotFound: there is none of this name.
            VersionNotFound: it has no such version.
        """
        entry = self.entry(name)
        asked = entry.known if version is None else {entry.version(version)}
        known = {
            other: Version(record.stamp, reason=UNLOADED) if other in asked else record
            for other, record in entry.known.items()
        }
        _log_unloaded(name, entry.loaded.keys() & asked)
        return self._put(_with(entry, known))

    def close(self) -> None:
        """Load nothing more; any thread may say so."""
        self._closed.set()

    def entries(self) -> list[Entry]:
        """Every model of the folder, by name."""
        return list(self._entries.values())

    def entry(self, name: str) -> Entry:
        """One model of the folder.

        Raises:
            ModelNotFound: there is none of this name.
        """
        entries = self._entries
        if name not in entries:
            near = get_close_matches(name, entries, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            have = ", ".join(sorted(entries)) or "none"
            raise ModelNotFound(f"there is no model '{name}'{hint} This server has: {have}")
        return entries[name]

    def model(self, name: str, version: str | None = None) -> Model:
        """A loaded model; without a version, the one that answers by default.

        Raises:
            ModelNotFound: there is none of this name.
            VersionNotFound: it has no such version.
            ModelUnavailable: it could not be loaded; the reason is given.
            NotReady: it is still being loaded.
        """
        entry = self.entry(name)
        if (model := entry.model(version)) is not None:
            return model
        if reason := entry.reason(version):
            raise ModelUnavailable(f"model '{name}' is unavailable: {reason}")
        raise NotReady(f"model '{name}' is still being loaded")

    def _keep_up(self, name: str, found: Found, anew: Collection[str] = ()) -> None:
        """Make a model what lies on disk; versions `anew` even if their files are the ones that were read before."""
        before = self._entries.get(name, Entry(name))
        entry = self._put(_noted(before, found))
        _log_unloaded(name, before.loaded.keys() - entry.loaded.keys())
        stamps = found.versions or {}
        due = [version for version, stamp in stamps.items() if version in anew or entry.known[version].stamp != stamp]
        tried = {version: self._try(entry, version, stamps[version]) for version in due}
        failures = sum(record.reason is not None for record in tried.values())
        counted = replace(entry, loads=entry.loads + len(tried) - failures, failures=entry.failures + failures)
        self._put(_with(counted, {**entry.known, **tried}))

    def _try(self, entry: Entry, version: str, stamp: Stamp) -> Version:
        """Load a version; where that fails, what serves of it stays, with the reason."""
        before, log_it = entry.known[version], log.bind(model=entry.name, version=version)
        try:
            model = self._read(self.folder / entry.name, version, stamp)
            self.warm(model)
        except Exception as error:  # noqa: BLE001 - a broken model must not stop the others, whatever is wrong with it
            reason = reason_of(error, entry.name, version)
            log_it.warning("model unavailable" if before.model is None else "model not replaced", reason=reason)
            return Version(stamp, before.model, reason)
        log_it.info("model loaded", device=str(self.device), trace_method=model.trace_method)
        return Version(stamp, model)

    def _read(self, folder: Path, version: str, stamp: Stamp) -> Model:
        """The model in these files, and not in two states of them."""
        if self._closed.is_set():
            raise NotReady("the service is shutting down")
        model = Model.load(folder, version, self.device, allow_code=self.allow_code)
        if (look_at(folder).versions or {}).get(version) != stamp:
            raise WeightsError("its files changed while they were read")
        return model

    def _put(self, entry: Entry) -> Entry:
        self._entries = dict(sorted({**self._entries, entry.name: entry}.items()))
        return entry

    def _forget(self, names: Collection[str]) -> None:
        """Serve these models no more: their folders are gone."""
        for name in names & self._entries.keys():
            _log_unloaded(name, self._entries[name].loaded)
        self._entries = {name: entry for name, entry in self._entries.items() if name not in names}

    def _note_unreadable(self, why: str) -> None:
        if why != self._unreadable:
            log.error("the folder of models cannot be read; what was loaded goes on", reason=why)
        self._unreadable = why


def _noted(entry: Entry, found: Found) -> Entry:
    """The entry with what was found in its folder; of what is new there is nothing yet but the name."""
    if found.versions is None:
        return replace(entry, problem=found.problem)
    pinned = found.pinned or (entry.pinned if found.problem else None)
    known = {version: entry.known.get(version, Version()) for version in found.versions}
    return _with(replace(entry, pinned=pinned, problem=found.problem), known)


def _with(entry: Entry, known: Mapping[str, Version]) -> Entry:
    """The entry with these versions."""
    return replace(entry, known=known, default_version=default_version(known, entry.pinned, entry.default_version))


def _log_unloaded(name: str, versions: Collection[str]) -> None:
    for version in versions:
        log.info("model unloaded", model=name, version=version)
