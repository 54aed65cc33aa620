"""`EagerTask`: runs a coroutine as `asyncio.Task` does, but begins at once: a request waits for no turn of the loop.

Python 3.12 has this as `asyncio.Task(coroutine, loop=loop, eager_start=True)`; 3.11 has not.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # public by the documentation of asyncio, "Extending"
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any


class EagerTask:
    """A coroutine that is run by its event loop, in a copy of the current context.

    It has what `asyncio.timeout` asks of the current task. What asks for more, as anyio does, needs an `asyncio.Task`.
    Its coroutine answers nothing and raises nothing; what it raises all the same goes to the loop's exception handler.

    Args:
        coroutine: is begun by `start`.
        loop: that runs it.
    """

    __slots__ = ("_awaited", "_cancellations", "_context", "_coroutine", "_loop", "_must_cancel")

    def __init__(self, coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._context = loop, copy_context()
        self._coroutine: Any = coroutine  # None once it is done
        self._awaited: asyncio.Future[Any] | None = None
        self._cancellations, self._must_cancel = 0, False

    def start(self) -> None:
        """Run it up to where it first waits; at the loop's next turn, where this is called from a task."""
        if asyncio.current_task(self._loop) is None:
            self._context.run(self._step)
        else:
            self._loop.call_soon(self._step, context=self._context)

    def done(self) -> bool:
        """Whether it has come to its end."""
        return self._coroutine is None

    def cancel(self) -> bool:
        """Raise `CancelledError` where it waits, or where it waits next; false once it is done."""
        if self._coroutine is None:
            return False
        self._cancellations += 1
        self._must_cancel = self._awaited is None or not self._awaited.cancel()
        return True

    def cancelling(self) -> int:
        """How often it was cancelled, less the calls of `uncancel`."""
        return self._cancellations

    def uncancel(self) -> int:
        """Take one cancellation back; answers how many are left."""
        self._cancellations = max(0, self._cancellations - 1)
        return self._cancellations

    def _step(self, _: asyncio.Future[Any] | None = None) -> None:
        """Run it up to where it waits next."""
        coroutine, self._awaited = self._coroutine, None
        _enter_task(self._loop, self)  # type: ignore[arg-type]  # any object may be one
        try:
            if self._must_cancel:
                self._must_cancel = False
                awaited = coroutine.throw(asyncio.CancelledError())
            else:
                awaited = coroutine.send(None)  # a future that has failed raises its error there
        except (StopIteration, asyncio.CancelledError):
            self._coroutine = None
        except BaseException as error:
            self._coroutine = None
            self._loop.call_exception_handler({"message": "a request was not answered", "exception": error})
            if not isinstance(error, Exception):
                raise
        else:
            self._wait_for(awaited)
        finally:
            _leave_task(self._loop, self)  # type: ignore[arg-type]

    def _wait_for(self, awaited: asyncio.Future[Any] | None) -> None:
        """Go on when this is done; without it, at the loop's next turn."""
        if awaited is None:
            self._loop.call_soon(self._step, context=self._context)
            return
        awaited._asyncio_future_blocking = False  # noqa: SLF001 - a task tells its futures so that they are waited for
        awaited.add_done_callback(self._step, context=self._context)
        self._awaited = awaited
        if self._must_cancel and awaited.cancel():
            self._must_cancel = False
