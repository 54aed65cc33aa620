"""`Connection`: one and the same client, of the service in this process or of a running server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gatescope.client import Client, ServiceError, Token, Unreachable
from gatescope.client.body import JSON, SAFETENSORS, encode
from gatescope.client.call import Call
from gatescope.client.reply import fields
from gatescope.errors import AppError, InvalidInput

if TYPE_CHECKING:
    from gatescope.server.settings import Settings


class Refused(AppError):
    """The service answered with an error, or not at all."""


class Connection:
    """Asks the API for the command line; a context manager.

    Args:
        url: of a running server; None serves the models of `settings` in this process, without a socket.
        settings: for the service in this process; not needed with a URL.
        key: an API key of the server.
        model: the only one that is asked; a service in this process loads all of them without it.
    """

    def __init__(
        self, url: str | None, settings: Settings | None, key: str | None = None, model: str | None = None
    ) -> None:
        self._client = _local(settings, model) if url is None else _remote(url, key)
        self.is_remote = url is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        """The JSON that stands there; raises `Refused`."""
        try:
            return self._client.get(path)
        except AppError as error:
            raise _named(error) from error

    def post(self, path: str, body: Mapping[str, Any], accept: str = JSON) -> bytes:
        """The reply's bytes in this format; raises `Refused`. Only what asks may be posted: it may be sent twice."""
        try:
            return self._client.post(path, body, accept, repeatable=True)
        except AppError as error:
            raise _named(error) from error

    def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The reply's fields, with arrays; raises `Refused`. Only what asks may be sent: it may be sent twice."""
        try:
            found: dict[str, Any] = self._client.send(Call("POST", path, fields, encode(body), SAFETENSORS))
        except AppError as error:
            raise _named(error) from error
        return found

    def generate(self, model: str, body: Mapping[str, Any]) -> Iterator[Token]:
        """The tokens that the model writes, as they are drawn; raises `Refused`."""
        try:
            with self._client.generate(model, **body) as tokens:
                yield from tokens
        except AppError as error:
            raise _named(error) from error


def _local(settings: Settings | None, model: str | None) -> Client:
    from gatescope.cli.in_process import InProcess

    if settings is None:
        raise ValueError("a service in this process needs settings")
    return Client("http://in-process", timeout_s=None, retries=0, transport=InProcess(settings, model))


def _remote(url: str, key: str | None) -> Client:
    try:
        return Client(url, key, timeout_s=None)
    except InvalidInput as error:
        raise Refused(f"--url {error}") from None


def _named(error: AppError) -> Refused:
    """With its stable name, unless it has no other than ours."""
    return Refused(str(error) if isinstance(error, ServiceError | Unreachable) else f"{type(error).__name__}: {error}")
