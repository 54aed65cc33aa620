"""`Call`: a request, and how its reply is read. Whoever sends it need not know what it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from gatescope.client.body import JSON, Body
from gatescope.client.problem import ServiceError
from gatescope.errors import AppError

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request to the API."""

    method: str
    path: str
    read: Callable[[httpx.Response], Any]
    """The result that a successful reply holds, or its fields where `finish` makes the result."""

    body: Body | None = None
    accept: str = JSON
    parameters: Mapping[str, Any] = field(default_factory=dict)

    repeatable: bool = True
    """Whether it may be sent again where it is not known what became of it: twice has the effect of once."""

    finish: Callable[[dict[str, Any], dict[str, Any]], T] | None = None
    """Makes the result from the fields of the reply and the ModelInfo of the version that answered."""

    done_if: type[AppError] | None = None
    """What a repeated request is refused with because the first one was carried out; for results of None."""

    @property
    def headers(self) -> dict[str, str]:
        """How it is to be read, and answered."""
        return {"Accept": self.accept} | ({} if self.body is None else {"Content-Type": self.body.media_type})

    def fields(self, reply: httpx.Response) -> Any:
        """What `read` makes of this reply to it.

        Raises:
            ServiceError: it is not a reply of this API.
        """
        with _as_service_error(reply):
            return self.read(reply)

    def answered_by(self, reply: httpx.Response, fields: Any) -> tuple[str, str]:
        """The name and the version of the model that gave this reply.

        Raises:
            ServiceError: it is not a reply of this API.
        """
        with _as_service_error(reply):
            return str(fields["model"]["name"]), str(fields["model"]["version"])

    def result(self, reply: httpx.Response, fields: Any, info: dict[str, Any]) -> T:
        """What `finish` makes of the fields of this reply.

        Raises:
            ServiceError: it is not a reply of this API.
        """
        if self.finish is None:
            raise TypeError("this call has no 'finish': its fields are the result")
        with _as_service_error(reply):
            return self.finish(fields, info)


@contextmanager
def _as_service_error(reply: httpx.Response) -> Iterator[None]:
    """Whatever goes wrong while a reply is read."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        given = reply.headers.get("content-type", "bytes")
        raise ServiceError(f"{reply.url} does not answer as this API does, but with {given}: {error!r}") from error


def path(*parts: str) -> str:
    """A path of the native API; the parts may hold any characters."""
    return "/v1/" + "/".join(quote(part, safe="", errors="surrogateescape") for part in parts)


def of_model(model: str, version: str | None = None, *rest: str) -> str:
    """The path of a model, of one of its versions, or of what is below."""
    return path("models", model, *(() if version is None else ("versions", version)), *rest)
