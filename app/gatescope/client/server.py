"""`Server`: its URL, the key for it, and how long and how often it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from gatescope.client.call import Call
from gatescope.client.retry import Retry
from gatescope.errors import InvalidInput

TIMEOUT_S = 60.0
RETRIES = 3


@dataclass(frozen=True)
class Server:
    """What both clients are made with.

    Args:
        url: of the server, such as `http://localhost:8000`.
        key: one of its API keys.
        timeout_s: seconds for a call with all its repetitions; None waits for as long as the server takes.
        retries: how often a call that may be repeated is sent again.

    Raises:
        InvalidInput: this is no URL, or no key.
    """

    url: str
    key: str | None = field(repr=False)
    timeout_s: float | None
    retries: int

    infos: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict, init=False, repr=False)
    """ModelInfo by name and version, as far as it was needed."""

    def __post_init__(self) -> None:
        try:
            scheme = httpx.URL(self.url).scheme
        except httpx.InvalidURL as error:
            raise InvalidInput(f"{self.url}: {error}") from None
        if scheme not in ("http", "https"):
            raise InvalidInput(f"{self.url}: the URL of a server begins with http:// or https://")
        if any(ord(character) < ord(" ") for character in self.key or ""):  # httpx would show it when it refuses it
            raise InvalidInput("a key is one line, without control characters; this one has some")

    def connection(self) -> dict[str, Any]:
        """What `httpx` makes a client with."""
        headers = {b"Authorization": f"Bearer {self.key}".encode(errors="surrogateescape")} if self.key else {}
        return {"base_url": self.url, "headers": headers}

    def retry(self, call: Call[Any], within: Retry | None = None) -> Retry:
        """How often this call is sent, and until when; `within` is the call that needs it and shares its time."""
        return Retry(call, self.url, self.retries, self.timeout_s if within is None else within.left_s)
