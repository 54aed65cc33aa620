"""`Stream`: what a client knows of its session, and the calls that move it on."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import httpx
import numpy as np

from gatescope import dataset
from gatescope.client.body import SAFETENSORS, encode
from gatescope.client.call import Call, path
from gatescope.client.fields import Array, Chunk, GivenState, Selected, written
from gatescope.client.prediction import State, Step, state_of
from gatescope.client.reply import fields, json, nothing
from gatescope.errors import SessionExists, SessionNotFound


@dataclass
class Stream:
    """One session as its only writer knows it: steps are numbered here, so one that is sent twice is taken once."""

    model: str | None = None
    """None for a session that is there already."""
    version: str | None = None
    session_id: str | None = None
    initial_state: GivenState | None = None
    static_inputs: Array | None = None
    static_columns: Sequence[str] | None = None
    steps: int | None = field(default=None, init=False)
    """How many were taken; None before it is open, and after its end."""

    @property
    def to_be_closed(self) -> bool:
        """Whether it was begun here, and goes on."""
        return self.model is not None and self.steps is not None

    def to_open(self) -> Call[None]:
        """Begin it, or find out where it stands.

        An id is made here where none is given, so that a reply which was lost leaves no session behind: the repeated
        request is refused with `SessionExists`, which then can only mean this one.
        """
        if self.model is None:
            return Call("GET", self._path(), self._found)
        own, self.session_id = self.session_id is None, self.session_id or uuid.uuid4().hex
        named = {"model": self.model, "version": self.version, "session_id": self.session_id}
        static = {"static_inputs": self.static_inputs, "static_columns": self.static_columns}
        body = encode(named | static | written({"initial_state": self.initial_state}))
        return Call("POST", path("sessions"), self._begin, body, done_if=SessionExists if own else None)

    def to_step(
        self, inputs: Array | None = None, *, trace: Selected | None = None, **chunk: Unpack[Chunk]
    ) -> Call[Step]:
        """What comes next in the stream; the answer is that of the whole sequence so far, from here on.

        Args:
            inputs: (time, feature), or (1, time, feature), or token ids.
            trace: what is wanted of it, such as `{"signals": ["cell_state"]}`; `{}` wants everything.
            **chunk: the other fields of a predict body; `text` stands in place of `inputs`.

        Raises:
            StepConflict: others have taken steps, too, or an earlier one was taken whose answer was lost; `info` tells.
            SessionNotFound: it was ended, or idle for too long.
            InvalidInput: something does not fit the model; `places` say what and where.
            AppError: what else the server refuses.
        """
        if trace is not None:
            dataset.need()
        wanted = None if trace is None else written(trace)
        asked = {"inputs": inputs, **written(chunk), "trace": wanted, "step_number": self._known_steps()}
        finish = None if trace is None else _with_trace
        return Call("POST", self._path("steps"), self._stepped, encode(asked), SAFETENSORS, finish=finish)

    def to_look(self) -> Call[dict[str, Any]]:
        """What the server knows of it; from then on steps are numbered as the server does.

        Raises:
            SessionNotFound: it was ended, or idle for too long.
        """
        return Call("GET", self._path(), self._looked)

    def to_read_state(self) -> Call[State | dict[str, State]]:
        """Where it stands, each (layers · directions, 1, unit); of several recurrent modules by name.

        Raises:
            SessionNotFound: it was ended, or idle for too long.
        """
        return Call("GET", self._path("state"), _state)

    def to_write_state(self, state: GivenState) -> Call[None]:
        """Go on from another state, each (layers · directions, 1, unit).

        Raises:
            SessionNotFound: it was ended, or idle for too long.
            InvalidInput: the state does not fit the model.
        """
        given = written({"initial_state": state})["initial_state"]
        return Call("PUT", self._path("state"), nothing, encode(given))

    def to_close(self) -> Call[None]:
        """End it.

        Raises:
            SessionNotFound: it was ended already, or idle for too long.
        """
        return Call("DELETE", self._path(), self._end, done_if=SessionNotFound)

    def _path(self, *rest: str) -> str:
        if self.session_id is None:
            raise RuntimeError("the session is not open: use it in a 'with' block, or open it")
        return path("sessions", self.session_id, *rest)

    def _known_steps(self) -> int:
        if self.steps is None:
            raise RuntimeError("the session is not open: use it in a 'with' block, or open it")
        return self.steps

    def _begin(self, _: httpx.Response) -> None:
        self.steps = 0

    def _end(self, _: httpx.Response) -> None:
        self.steps = None

    def _found(self, reply: httpx.Response) -> None:
        self._looked(reply)

    def _looked(self, reply: httpx.Response) -> dict[str, Any]:
        told: dict[str, Any] = json(reply)
        self.steps = int(told["steps"])
        return told

    def _stepped(self, reply: httpx.Response) -> Step | dict[str, Any]:
        said = fields(reply)
        self.steps = int(said["steps"])
        return said if "trace" in said else Step.of(said, steps=self.steps)


def sessions() -> Call[list[dict[str, Any]]]:
    """What the server knows of every session that is open, the one that was used last comes last."""
    return Call("GET", path("sessions"), lambda reply: list(json(reply)["sessions"]))


def _with_trace(said: dict[str, Any], info: dict[str, Any]) -> Step:
    traced = dataset.of(said | said["trace"], said["sequence_lengths"], said["trace"]["signals"], info)
    return Step.of(said, steps=int(said["steps"]), trace=traced)


def _state(reply: httpx.Response) -> State | dict[str, State]:
    return state_of(_arrays(json(reply)))


def _arrays(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _arrays(value) if isinstance(value, dict) else np.array(value, dtype=np.float32)
        for name, value in said.items()
    }
