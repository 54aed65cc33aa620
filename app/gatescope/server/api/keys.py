"""Who gets in: the operator's keys, and who may change what is served."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from gatescope.errors import Unauthorized

HOW = "as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"


class Keys:
    """Some keys; there may be none."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = tuple(key.encode() for key in keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def fit(self, headers: Headers) -> bool:
        """Whether a request with these headers carries one of them."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        sent = (token if scheme.lower() == "bearer" else headers.get("x-api-key", "")).strip().encode()
        matches = [secrets.compare_digest(sent, key) for key in self._keys]  # all compared: no timing to learn from
        return any(matches)


@dataclass(frozen=True)
class Administration:
    """The rule for routes that change what is served.

    Where there are admin keys, one is needed. Where there are only API keys, nobody may. A server without any keys lets
    in whoever reaches it, but no page in somebody's browser that is not its own: neither one of another origin, nor one
    whose name was made to point here.
    """

    keys: Keys
    api_keys: Keys
    origins: tuple[str, ...]
    """Of pages that may call the API; `*` counts for nothing here."""

    def check(self, headers: Headers) -> None:
        """Let a request with these headers pass.

        Raises:
            Unauthorized: it may not.
        """
        if self.keys:
            if not self.keys.fit(headers):
                raise Unauthorized(f"this changes what is served: send one of this server's admin keys {HOW}")
        elif self.api_keys:
            raise Unauthorized(
                "this changes what is served, and this server has no admin keys: set GATESCOPE_ADMIN_KEYS"
            )
        elif self._is_foreign(headers.get("origin"), headers.get("host", "")):
            raise Unauthorized(
                f"this changes what is served, and no page of {headers['origin']} may do that: "
                "name it in GATESCOPE_CORS_ORIGINS, or set GATESCOPE_ADMIN_KEYS"
            )

    def check_page(self, headers: Headers) -> None:
        """Let a WebSocket with these headers pass: browsers open it for any page, without asking whose it is.

        Raises:
            Unauthorized: it is of a page that may not call the API.
        """
        if "*" not in self.origins and self._is_foreign(headers.get("origin"), headers.get("host", "")):
            raise Unauthorized(
                f"no page of {headers['origin']} may open a stream here: name it in GATESCOPE_CORS_ORIGINS"
            )

    def _is_foreign(self, origin: str | None, host: str) -> bool:
        """Whether a page sent this that is not ours; only browsers say where a request comes from."""
        if origin is None or origin in self.origins:
            return False
        return origin not in (f"http://{host}", f"https://{host}") or _may_be_made_up(origin)


def _may_be_made_up(origin: str) -> bool:
    """Whether somebody else could have made this name point to this server: it is no address."""
    try:
        name = urlsplit(origin).hostname or ""
        return name != "localhost" and not ip_address(name)
    except ValueError:
        return True
