"""Conversations held with running servers, and what came of them."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from client import Reply, hold
from conversation import Conversation
from normalise import Recorded, normalised
from servers import CONFIGURATIONS, Server, serving

AT_ONCE = 3
"""So many servers run at a time: each takes seconds of a processor to start."""


def replies(conversation: Conversation, port: int) -> dict[str, Recorded]:
    """What is recorded of each reply of a conversation, and in the end of each connection."""
    digests = {name: step.digest for step in conversation.steps for name in step.replies}
    recorded: dict[str, Recorded] = {}
    for name, got, captured in hold(conversation, port):
        if isinstance(got, Reply):
            recorded[name] = {"asked": digests[name]} | normalised(got, captured)
        else:
            recorded[name] = {"left": got}
    return recorded


class Replay:
    """Conversations under way: a thread for each server.

    Args:
        conversations: all that are to be held, in their order.
        command: starts `gatescope`.
    """

    def __init__(self, conversations: Iterable[Conversation], command: Sequence[str | Path]) -> None:
        self._command = command
        self._scratch = tempfile.TemporaryDirectory(prefix="record-")
        self._pool = ThreadPoolExecutor(AT_ONCE)
        by_configuration: dict[str, list[Conversation]] = {name: [] for name in CONFIGURATIONS}
        for conversation in conversations:
            by_configuration[conversation.configuration].append(conversation)
        self._held: dict[str, Future[dict[str, Recorded]]] = {
            conversation.name_at: Future() for each in by_configuration.values() for conversation in each
        }
        for name, each in by_configuration.items():
            if each:
                self._pool.submit(self._run, name, each)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._scratch.cleanup()

    def of(self, conversation: Conversation) -> Mapping[str, Recorded]:
        """What came of a conversation; waits until it is over."""
        return self._held[conversation.name_at].result()

    def _run(self, configuration: str, conversations: Sequence[Conversation]) -> None:
        waiting = list(conversations)
        try:
            with serving(configuration, self._command, Path(self._scratch.name)) as server:
                while waiting:
                    self._hold(waiting.pop(0), server)
        except Exception as error:  # noqa: BLE001 - whoever waits for the others is told
            for conversation in waiting:
                self._held[conversation.name_at].set_exception(error)

    def _hold(self, conversation: Conversation, server: Server) -> None:
        held = self._held[conversation.name_at]
        try:
            came = replies(conversation, server.port)
        except Exception as error:  # noqa: BLE001 - likewise, and the next conversations go on
            error.add_note(server.fate)
            held.set_exception(error)
        else:
            held.set_result(came)
