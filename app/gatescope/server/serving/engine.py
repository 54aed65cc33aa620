"""`Engine`: the seam between the API and whatever computes."""

from __future__ import annotations

from asyncio import Future
from collections.abc import AsyncIterator
from typing import Protocol

from gatescope.checkpoints.importer import Imported
from gatescope.checkpoints.structure.options import Options
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.repository.entry import Entry
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.request import WHOLE, Part
from gatescope.server.serving.statistics import Statistics


class Engine(Protocol):
    """Knows the models and answers queries; the API cannot tell which engine it has."""

    @property
    def ready(self) -> bool:
        """Whether every model was loaded or given up, and queries are taken."""

    async def loaded(self) -> None:
        """Wait until it is ready."""

    def entries(self) -> list[Entry]:
        """Every model, by name."""

    def entry(self, name: str) -> Entry:
        """One model; raises `ModelNotFound`."""

    def model(self, name: str, version: str | None = None) -> Model:
        """A model that can answer; raises `ModelNotFound`, `VersionNotFound`, `ModelUnavailable`, `NotReady`."""

    async def answer(self, model: Model, query: Query, deadline: Deadline | None = None, part: Part = WHOLE) -> Answer:
        """What the query asks for; raises `Overloaded`, `NotReady`, `DeadlineExceeded`."""

    def submit(
        self, model: Model, query: Query, deadline: Deadline | None = None, part: Part = WHOLE
    ) -> Future[Answer]:
        """The same without waiting for it; who needs it no more cancels it. Raises what `answer` raises.

        `part` says which part of a client's request the query is, where that takes several, one after the other: only
        the first may be refused as `Overloaded`, and all of them count as one.
        """

    def statistics(self, model: Model) -> Statistics:
        """What this version was asked, and how long that took."""

    @property
    def waiting(self) -> int:
        """How many queries wait that somebody waits for."""

    @property
    def background(self) -> Engine:
        """The same engine for work that nobody waits for: it gives way to all other, and is never `Overloaded`."""

    async def load(self, name: str, version: str | None) -> Entry:
        """Read a model or one version anew; raises `ModelNotFound`, `VersionNotFound`, `ModelError`, `Unavailable`."""

    async def unload(self, name: str, version: str | None) -> Entry:
        """Serve a model or one version no more; raises `ModelNotFound`, `VersionNotFound`."""

    async def upload(self, name: str, checkpoint: AsyncIterator[bytes], options: Options) -> Imported:
        """Make a checkpoint a version that is served; raises `InvalidInput`, `VersionExists`, `ModelError` and more."""
