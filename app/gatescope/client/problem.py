"""What a server refuses, as the errors that it raised there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from gatescope import errors
from gatescope.errors import AppError, Place, Unavailable


class Unreachable(Unavailable):
    """No answer came: there is no server there, or the connection broke off."""


class ServiceError(AppError):
    """The server answered with something that this client does not know."""


def from_reply(reply: httpx.Response) -> AppError:
    """The error that a reply carries: of the class that its `title` names, with the places."""
    try:
        return from_fields(reply.json())
    except (ValueError, KeyError, TypeError, AttributeError):  # a proxy has answered
        return ServiceError(f"{reply.status_code} {reply.reason_phrase} from {reply.url}")


def from_fields(problem: Mapping[str, Any]) -> AppError:
    """The error that the fields of a problem tell; raises `KeyError` and others where they are none."""
    title, detail = str(problem["title"]), str(problem["detail"])
    places = tuple(Place(tuple(place["loc"]), place["msg"]) for place in problem.get("errors", ()))
    kind = getattr(errors, title, None)
    if isinstance(kind, type) and issubclass(kind, AppError):
        return kind(detail, places)
    return ServiceError(f"{title}: {detail}", places)
