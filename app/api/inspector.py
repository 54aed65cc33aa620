"""The inspector: the files of the page, as browsers get them."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parents[1] / "inspector"

HEADERS = {
    "Cache-Control": "no-cache",  # asked for again each time, by its ETag: a new version of the service shows at once
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address of a view holds data
    "X-Content-Type-Options": "nosniff",
}


class Inspector(StaticFiles):
    """The page at `/` and, below `/inspector`, what it is made of."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def page(self, request: Request) -> Response:
        """The page itself."""
        return await self.get_response("index.html", request.scope)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """A file, or that it has not changed."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        return response
