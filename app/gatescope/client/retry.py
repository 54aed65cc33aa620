"""When a call is sent again, and for how long: only where that is safe, and within its deadline."""

from __future__ import annotations

import math
import random
import time
from typing import Any

import httpx

from gatescope.client import problem
from gatescope.client.call import Call
from gatescope.client.problem import Unreachable
from gatescope.errors import AppError, DeadlineExceeded, InvalidInput, ModelUnavailable

CONNECT_S = 5.0
"""So long may it take to reach the server."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
TOO_MANY_REQUESTS, UNAVAILABLE = 429, 503


class Retry:
    """One call from the first time that it is sent to the last.

    Args:
        call: what is asked.
        url: of the server, for messages.
        retries: how often it may be sent again, if it is repeatable.
        timeout_s: seconds for all of it, waiting included; None waits for as long as the server takes.
    """

    def __init__(self, call: Call[Any], url: str, retries: int, timeout_s: float | None) -> None:
        self._call, self._url = call, url
        self._retries = retries if call.repeatable else 0
        self._timeout_s = timeout_s
        self._ends = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self._sent = 0

    def request(self) -> dict[str, Any]:
        """The request that is sent next, as `httpx` takes it."""
        self._sent += 1
        call, headers, timeout = self._call, self._call.headers, httpx.Timeout(None)
        if self.left_s is not None:
            left = max(self.left_s, 0.001)
            headers["X-Request-Timeout-Ms"] = str(math.ceil(left * 1000))
            timeout = httpx.Timeout(left, connect=min(left, CONNECT_S))
        return {
            "method": call.method,
            "url": call.path,
            "content": None if call.body is None else call.body.content,
            "params": call.parameters,
            "headers": headers,
            "timeout": timeout,
        }

    def wait_after_failure(self, error: httpx.HTTPError) -> float:
        """Seconds until it is sent again, where there was no reply.

        Raises:
            Unreachable: it is not sent again; it is not known whether the server did what it was asked.
            DeadlineExceeded: the deadline has come.
            InvalidInput: this is no request.
        """
        failure = self.failure(error)
        wait_s = self._wait_s() if isinstance(failure, Unreachable) else None
        if wait_s is None:
            raise failure from error
        return wait_s

    def failure(self, error: httpx.HTTPError) -> AppError:
        """What it means that no reply came, or not all of one."""
        if isinstance(error, (httpx.LocalProtocolError, httpx.UnsupportedProtocol)):
            return InvalidInput(f"{self._url} cannot be asked that: {error}")
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return DeadlineExceeded(f"no answer from {self._url} within {self._timeout_s:g} seconds")
        return Unreachable(f"no answer from {self._url}: {error or type(error).__name__}")

    def wait_after(self, reply: httpx.Response) -> float | None:
        """Seconds until it is sent again; None where the reply is the answer.

        Raises:
            AppError: what the server refuses.
        """
        if reply.is_success:
            return None
        error = problem.from_reply(reply)
        if self._sent > 1 and self._call.done_if is not None and isinstance(error, self._call.done_if):
            return None
        wait_s = self._wait_s(_retry_after_s(reply)) if _may_pass(reply, error) else None
        if wait_s is None:
            raise error
        return wait_s

    @property
    def left_s(self) -> float | None:
        """Seconds that are left of the deadline; None where there is none."""
        return None if self._timeout_s is None else self._ends - time.monotonic()

    def _wait_s(self, at_least: float = 0.0) -> float | None:
        """Doubled each time, and random, so that clients refused together do not come back together; None: no more."""
        if self._sent > self._retries:
            return None
        longest = min(FIRST_WAIT_S * 2 ** (self._sent - 1), LONGEST_WAIT_S)
        wait_s = at_least + random.uniform(longest / 2, longest)  # noqa: S311 - it keeps no secret
        return wait_s if self.left_s is None or wait_s < self.left_s else None


def _may_pass(reply: httpx.Response, error: AppError) -> bool:
    """Whether the same request may be answered soon: a model that could not be loaded stays so."""
    return reply.status_code in (TOO_MANY_REQUESTS, UNAVAILABLE) and not isinstance(error, ModelUnavailable)


def _retry_after_s(reply: httpx.Response) -> float:
    stated = reply.headers.get("retry-after", "")
    return float(stated) if stated.isdecimal() else 0.0
