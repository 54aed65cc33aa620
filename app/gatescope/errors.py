"""Every error that Gatescope raises on purpose.

    AppError
    ├── BadRequest                 what was sent cannot be read or does not fit
    │   ├── InvalidJSON
    │   ├── InvalidInput           fields, shapes and values; carries the places
    │   ├── UnsupportedMediaType
    │   ├── NotAcceptable
    │   ├── HeadTooLarge
    │   ├── TooSlow
    │   ├── BodyTooLarge
    │   ├── ReplyTooLarge
    │   └── TraceTooLarge
    ├── Unauthorized
    ├── Forbidden                  whoever asks, this is not answered to them
    │   ├── ForeignOrigin
    │   └── UnknownHost
    ├── NotFound
    │   ├── ModelNotFound
    │   ├── VersionNotFound
    │   ├── SessionNotFound
    │   ├── TraceNotFound
    │   ├── JobNotFound
    │   ├── CorpusNotFound
    │   └── AnalysisNotFound
    ├── Conflict                   what is asked for does not go with what is there
    │   ├── VersionExists
    │   ├── SessionExists
    │   ├── SessionBusy
    │   ├── StepConflict
    │   └── ModelReplaced
    ├── Unavailable                the service, or one model, cannot answer now
    │   ├── NotReady
    │   ├── ModelUnavailable
    │   ├── Overloaded
    │   │   └── TooManySessions
    │   ├── StoreUnavailable
    │   └── DeadlineExceeded
    ├── ModuleFailed               a custom module's own code raised, or gave what it must not
    └── ModelError                 a model on disk cannot be served
        ├── CheckpointError
        ├── ManifestError
        ├── ModuleError
        └── WeightsError

No HTTP in here: `gatescope/server/api/problems.py` maps the tree to the wire.
A class's name is its stable public name, and every error survives pickle, because its arguments are its whole state.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """One thing that is wrong, and where: `loc` is a path into the request, as pydantic writes it."""

    loc: tuple[str | int, ...]
    message: str


class AppError(Exception):
    """The root: one sentence for the reader, and the places where that helps."""

    def __init__(self, detail: str, places: tuple[Place, ...] = ()) -> None:
        super().__init__(detail, places)
        self.detail = detail
        self.places = places

    def __str__(self) -> str:
        return self.detail


class BadRequest(AppError):
    """What was sent cannot be read or does not fit."""


class InvalidJSON(BadRequest):
    """The body is not JSON."""


class InvalidInput(BadRequest):
    """Fields, shapes or values do not fit what the model takes."""

    @classmethod
    def at(cls, *places: Place) -> InvalidInput:
        """The error for these places; its detail is the first of them."""
        first = places[0]
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        return cls(f"{'.'.join(map(str, first.loc))}: {first.message}{more}", places)


class UnsupportedMediaType(BadRequest):
    """The body comes in a media type that this route does not read."""


class NotAcceptable(BadRequest):
    """The reply was asked for in a media type that this route does not write."""


class HeadTooLarge(BadRequest):
    """The head has more bytes or lines than this server takes."""


class TooSlow(BadRequest):
    """The head or the body did not arrive in time."""


class BodyTooLarge(BadRequest):
    """The body has more bytes than this server takes."""

    @classmethod
    def than(cls, max_bytes: int) -> BodyTooLarge:
        """The error of a body with more bytes than these."""
        return cls(f"the body has more than the {max_bytes:,} bytes that this server takes")


class ReplyTooLarge(BadRequest):
    """What was asked for, without a trace, has more bytes than this server makes."""


class TraceTooLarge(BadRequest):
    """The trace asked for has more bytes than this server makes."""


class Unauthorized(AppError):
    """The request carries no valid key."""


class Forbidden(AppError):
    """The request may not be answered, whatever key it carries."""


class ForeignOrigin(Forbidden):
    """A page of another origin sent what only pages of this server may send."""


class UnknownHost(Forbidden):
    """The request asks for a host that this server is not."""


class NotFound(AppError):
    """There is no such thing."""


class ModelNotFound(NotFound):
    """There is no model of this name."""


class VersionNotFound(NotFound):
    """The model has no such version."""


class SessionNotFound(NotFound):
    """There is no such session, or no more: it was ended, or idle for too long."""


class TraceNotFound(NotFound):
    """There is no such stored trace, or no more."""


class JobNotFound(NotFound):
    """There is no such job, or no more."""


class CorpusNotFound(NotFound):
    """There is no such corpus."""


class AnalysisNotFound(NotFound):
    """There is no analysis of this name."""


class Conflict(AppError):
    """What is asked for does not go with what is there."""


class VersionExists(Conflict):
    """The model has this version already."""


class SessionExists(Conflict):
    """There is a session of this name already."""


class SessionBusy(Conflict):
    """Other steps of the session came first, time and again."""


class StepConflict(Conflict):
    """The step is not the session's next one."""


class ModelReplaced(Conflict):
    """The version that the session began with has other weights now."""


class Unavailable(AppError):
    """The service, or one model, cannot answer now."""


class NotReady(Unavailable):
    """The service is still loading its models, or is shutting down."""


class ModelUnavailable(Unavailable):
    """The model is there, but could not be loaded."""


class Overloaded(Unavailable):
    """Too many requests wait already."""


class TooManySessions(Overloaded):
    """As many sessions are open as the service keeps."""


class StoreUnavailable(Unavailable):
    """Where sessions are kept cannot be reached."""


class DeadlineExceeded(Unavailable):
    """The answer was not there in time."""


class ModuleFailed(AppError):
    """A custom module's own code failed, or gave what is no prediction."""


class ModelError(AppError):
    """A model on disk cannot be served."""


class CheckpointError(ModelError):
    """The checkpoint cannot be read, is not safe to read, or holds no weights that can be served."""


class ManifestError(ModelError):
    """`model.toml` cannot be read or contradicts the weights."""


class ModuleError(ModelError):
    """A custom module may not be used here, cannot be built, or does not keep to what is asked of one."""


class WeightsError(ModelError):
    """The weights cannot be read or are not an `nn.LSTM`'s."""
