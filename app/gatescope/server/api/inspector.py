"""The inspector: the files of the page, as browsers get them."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parents[1] / "inspector"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address of a view holds data
    "X-Content-Type-Options": "nosniff",
}

ASK_AGAIN = "no-cache"  # by its ETag: a new version of the service shows at once
KEEP = "public, max-age=31536000, immutable"

_VERSIONED = re.compile(r"v-([0-9a-f]{16})/(.*)", re.DOTALL)


class Inspector(StaticFiles):
    """The page at `/` and, below `/inspector`, what it is made of.

    The page names its parts below `/inspector/v-VERSION/`, so that browsers need not ask for them again.
    """

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def page(self, request: Request) -> Response:
        """The page itself."""
        version = _version()
        text = (FOLDER / "index.html").read_text(encoding="utf-8")
        versioned = text.replace('"/inspector/', f'"/inspector/v-{version}/')
        page = Response(versioned, media_type="text/html", headers={"ETag": f'"{version}"'})
        response = NotModifiedResponse(page.headers) if self.is_not_modified(page.headers, request.headers) else page
        response.headers.update(HEADERS | {"Cache-Control": ASK_AGAIN})
        return response

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, at its own path or below a version's."""
        named = _VERSIONED.fullmatch(path)
        response = await super().get_response(named[2] if named else path, scope)
        if named and named[1] == _version():  # of another version, as while servers are being replaced, it is not kept
            response.headers["Cache-Control"] = KEEP
        return response

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """A file, or that it has not changed."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS | {"Cache-Control": ASK_AGAIN})
        return response


def _version() -> str:
    """Another one whenever a file has changed, also while the server runs."""
    with os.scandir(FOLDER) as files:
        stats = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return hashlib.blake2b(repr(stats).encode(), digest_size=8).hexdigest()
