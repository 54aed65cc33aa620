"""`Call`: a request, and how its reply is read. Whoever sends it need not know what it is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    read: Callable[[httpx.Response], T]
    """The result that a successful reply holds."""

    body: Body | None = None
    accept: str = JSON
    parameters: Mapping[str, Any] = field(default_factory=dict)

    repeatable: bool = True
    """Whether it may be sent again where it is not known what became of it: twice has the effect of once."""

    done_if: type[AppError] | None = None
    """What a repeated request is refused with because the first one was carried out; for results of None."""

    @property
    def headers(self) -> dict[str, str]:
        """How it is to be read, and answered."""
        return {"Accept": self.accept} | ({} if self.body is None else {"Content-Type": self.body.media_type})

    def result(self, reply: httpx.Response) -> T:
        """What this reply to it says.

        Raises:
            ServiceError: it is not a reply of this API.
        """
        try:
            return self.read(reply)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            given = reply.headers.get("content-type", "bytes")
            raise ServiceError(f"{reply.url} does not answer as this API does, but with {given}: {error!r}") from error


def path(*parts: str) -> str:
    """A path of the native API; the parts may hold any characters."""
    return "/v1/" + "/".join(quote(part, safe="", errors="surrogateescape") for part in parts)


def of_model(model: str, version: str | None = None, *rest: str) -> str:
    """The path of a model, of one of its versions, or of what is below."""
    return path("models", model, *(() if version is None else ("versions", version)), *rest)
