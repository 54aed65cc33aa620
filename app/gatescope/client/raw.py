"""Calls to any route: for what has no method of its own, and for whoever wants the reply as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatescope.client.body import JSON, encode
from gatescope.client.call import Call
from gatescope.client.reply import json


def get(path: str) -> Call[Any]:
    """The JSON that stands at a path, such as `/v1/models`.

    Raises:
        AppError: what the server refuses.
    """
    return Call("GET", path, json)


def post(path: str, content: Mapping[str, Any], accept: str = JSON, *, repeatable: bool = False) -> Call[bytes]:
    """The reply to this body, as it comes in this format.

    Args:
        path: such as `/v1/models/river/predict`.
        content: the fields of the body.
        accept: the media type of the reply.
        repeatable: whether it may be sent again where it is not known what became of it.

    Raises:
        AppError: what the server refuses.
    """
    return Call("POST", path, lambda reply: reply.content, encode(content), accept, repeatable=repeatable)
