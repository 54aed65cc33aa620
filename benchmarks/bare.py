"""What HTTP alone costs: an application that reads the whole body and answers as many bytes as a prediction has."""

from __future__ import annotations

from typing import Any

ANSWER = (
    b'{"model":{"name":"small","version":"1"},"sequence_lengths":[50],"prediction":{"values":[[-0.012345678901234567]]}}'
)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI, without a framework."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})
