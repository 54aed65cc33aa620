"""`Cors`: which pages of other origins may read replies."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers as StarletteHeaders
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from gatescope.server.api.messages import REQUEST_ID, Head, Headers, Reply

EXPOSED = (REQUEST_ID, "Retry-After")
"""Headers of replies that pages of other origins may read."""

_VARY: Headers = [(b"vary", b"Origin")]


class Cors:
    """Starlette's rules, asked for their headers.

    Args:
        origins: of the pages; `*` for all.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self.origins = origins
        self._rules = CORSMiddleware(
            _nothing, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=EXPOSED
        )

    def is_allowed(self, origin: str) -> bool:
        """Whether pages of this origin may call the API."""
        return self._rules.is_allowed_origin(origin)

    def preflight(self, head: Head) -> Reply | None:
        """The reply to a browser that asks before it sends a page's request; None to any other request."""
        if head.method != "OPTIONS" or head.get(b"origin") is None:
            return None
        if head.get(b"access-control-request-method") is None:
            return None
        response = self._rules.preflight_response(StarletteHeaders(raw=head.headers))
        return Reply(response.status_code, (bytes(response.body),), None, response.raw_headers)

    def headers(self, head: Head) -> Headers:
        """What a reply says of who may read it."""
        origin = head.text(b"origin")
        if origin is None:
            return _VARY
        headers = MutableHeaders(self._rules.simple_headers)
        if not self._rules.allow_all_origins and self.is_allowed(origin):
            self._rules.allow_explicit_origin(headers, origin)
        else:
            headers["Vary"] = "Origin"
        return headers.raw


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The application that the rules of Starlette stand around, and that nobody calls."""
