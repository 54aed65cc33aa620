"""`Session`: one stateful stream, as it stands after its last step."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from gatescope.errors import StepConflict
from gatescope.pipeline.query import Query

SCHEMA = 4
"""Of the records of sessions that outlive a process. 2 added the static inputs, 3 the values that gaps are filled from,
4 the owner; a record without it is of 1."""

_WITHOUT_OWNER, _WITHOUT_VALUES = 3, 2
_DIGEST_BYTES = 16
_REVISION_BITS = 62


_REVISIONS = count(secrets.randbits(_REVISION_BITS))
"""No two processes' are the same: there are far more than ever will be used."""


class SessionKey(NamedTuple):
    """What a session is kept under: owners may choose the same id."""

    owner: str
    """As `Owner.names` has them."""
    session_id: str


@dataclass(frozen=True, slots=True)
class LastStep:
    """What it takes to answer the last step once more: kept where the client numbers its steps."""

    state: bytes  # from which the step began
    digest: bytes  # of its inputs
    values: bytes = b""  # as the session's, before the step


@dataclass(frozen=True, slots=True)
class Session:
    """A snapshot: a step puts another one in its place."""

    session_id: str
    model: str
    version: str
    fingerprint: str
    """Of the model: a state means nothing to other weights."""
    steps: int
    """How many steps were taken, each of one or more time steps."""
    time_steps: int
    created_at: float  # Unix seconds
    expires_at: float  # Unix seconds
    state: bytes = field(repr=False)
    """As `State.packed` has it."""
    last: LastStep | None = field(default=None, repr=False)
    static: bytes = field(default=b"", repr=False)
    """The static inputs, float64; empty where the model takes none."""
    continues: bool = False
    """Whether its state was given: how many time steps led to it is not known."""
    values: bytes = field(default=b"", repr=False)
    """The inputs of the last time step, float64, of a model that fills gaps with what stood before them; else empty."""
    revision: int = field(default_factory=lambda: next(_REVISIONS))
    """Another one after every change, by which writers see that another came first."""
    owner: str = ""
    """As `Owner.names` has them."""

    @property
    def key(self) -> SessionKey:
        """What it is kept under."""
        return SessionKey(self.owner, self.session_id)

    @property
    def static_inputs(self) -> Tensor | None:
        """(1, feature), where the model takes them."""
        return torch.frombuffer(bytearray(self.static), dtype=torch.float64)[None] if self.static else None

    @property
    def schema(self) -> int:
        """The first one of `SCHEMA` that has all that is in it: processes of an earlier version read what they know."""
        if self.owner:
            return SCHEMA
        return _WITHOUT_OWNER if self.values or (self.last and self.last.values) else _WITHOUT_VALUES

    def before(self, query: Query, number: int | None) -> LastStep:
        """Where a step begins: where the session stands, or for the last step once more, where that began.

        Raises:
            StepConflict: the number is not the next, or the last one's inputs were others.
        """
        if number is None or number == self.steps:
            return LastStep(self.state, digest(query), self.values)
        if self.last is None or number != self.steps - 1:
            raise StepConflict(
                f"step {number} of session '{self.session_id}' cannot be taken: the next is {self.steps}"
            )
        if self.last.digest != digest(query):
            raise StepConflict(
                f"step {number} of session '{self.session_id}' was taken already, with other inputs; the next is "
                f"{self.steps}"
            )
        return self.last

    def after(self, query: Query, state: bytes, expires_at: float, *, numbered: bool, values: bytes = b"") -> Session:
        """The session when this step, as it was sent, has led to this state and these values."""
        return Session(
            self.session_id,
            self.model,
            self.version,
            self.fingerprint,
            self.steps + 1,
            self.time_steps + query.steps,
            self.created_at,
            expires_at,
            state,
            LastStep(self.state, digest(query), self.values) if numbered else None,
            self.static,
            self.continues,
            values,
            owner=self.owner,
        )

    def moved_to(self, state: bytes, expires_at: float) -> Session:
        """The session in a state that was given to it."""
        return replace(
            self,
            state=state,
            expires_at=expires_at,
            last=None,
            continues=True,
            values=b"",  # they belong to the steps that led elsewhere
            revision=next(_REVISIONS),
        )

    def steps_before(self, query: Query) -> int | None:
        """How many time steps were read before those of the step that was taken last; None if that is not known."""
        return None if self.continues else self.time_steps - query.steps


def digest(query: Query) -> bytes:
    """Of a step's inputs, and of what is edited on the way."""
    made = blake2b(query.inputs.contiguous().numpy().tobytes(), digest_size=_DIGEST_BYTES)
    for each in query.interventions:
        made.update(repr(each).encode())
        if isinstance(each.patch, Tensor):
            made.update(each.patch.contiguous().numpy().tobytes())
    return made.digest()
