"""`Entry`: one model of the folder, as it is served now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gatescope.errors import VersionNotFound
from gatescope.pipeline.model import Model
from gatescope.server.repository.found import Stamp

State = Literal["ready", "loading", "unavailable"]


@dataclass(frozen=True)
class Version:
    """What serves of one version, and how the last attempt to load it went."""

    stamp: Stamp | None = None
    """Of the files when they were last loaded, failed to load, or were unloaded; None before that."""

    model: Model | None = None
    """What answers."""

    reason: str | None = None
    """Why what lies on disk is not what answers."""


_UNKNOWN = Version()


@dataclass(frozen=True)
class Entry:
    """A snapshot: it never changes, another one takes its place."""

    name: str
    known: Mapping[str, Version] = field(default_factory=dict)
    """Every version on disk, the oldest first."""

    default_version: str | None = None
    """The one that answers where none is named: the one that is pinned, else the newest that is loaded."""

    pinned: str | None = None
    """The version that the manifest wants to answer where none is named."""

    problem: str | None = None
    """What is wrong with the model as a whole."""

    loads: int = 0
    """How often a version of it was loaded."""

    failures: int = 0
    """How often one could not be loaded."""

    @property
    def versions(self) -> list[str]:
        """Every version on disk, the oldest first."""
        return list(self.known)

    @property
    def loaded(self) -> dict[str, Model]:
        """Every version that answers."""
        return {name: version.model for name, version in self.known.items() if version.model is not None}

    def version(self, version: str | None) -> str | None:
        """The version named, or the one that answers where none is named; None if there is no version at all.

        Raises:
            VersionNotFound: there is no such version.
        """
        if version is None:
            return self.default_version
        if version not in self.known:
            have = ", ".join(self.known) or "none"
            raise VersionNotFound(f"model '{self.name}' has no version '{version}'; it has {have}")
        return version

    def model(self, version: str | None) -> Model | None:
        """What answers for that version, None for the one that answers by default."""
        return self._record(version).model

    def state(self, version: str | None) -> State:
        """Of a version, None for the one that answers by default."""
        if self.model(version) is not None:
            return "ready"
        return "loading" if self.reason(version) is None else "unavailable"

    def reason(self, version: str | None) -> str | None:
        """Why that version is unavailable, or why not what lies on disk answers; None if all is well."""
        record = self._record(version)
        if record.model is None:
            return record.reason or self.problem
        if record.reason is not None:
            return f"what was loaded before still answers, because its files cannot be loaded: {record.reason}"
        return self._overlooked() if version is None else None

    def _record(self, version: str | None) -> Version:
        return self.known.get(self.version(version) or "", _UNKNOWN)

    def _overlooked(self) -> str | None:
        """Why the default version is not the one that it should be."""
        if self.problem is not None:
            return f"version '{self.default_version}' still answers: {self.problem}"
        if self.default_version == self.pinned:
            return None
        wanted = self.pinned or self.versions[-1]
        reason = self.known[wanted].reason
        return (
            reason and f"version '{self.default_version}' answers, because version '{wanted}' is unavailable: {reason}"
        )


def default_version(known: Mapping[str, Version], pinned: str | None, before: str | None) -> str | None:
    """The version that answers where none is named.

    Args:
        known: every version on disk, the oldest first.
        pinned: the version that the manifest wants; None wants the newest.
        before: the one that answered until now; it goes on where the pinned one is not loaded.
    """
    loaded = [name for name, version in known.items() if version.model is not None]
    if pinned is None:
        return next(reversed(loaded or list(known)), None)
    return before if pinned not in loaded and before in loaded else pinned
