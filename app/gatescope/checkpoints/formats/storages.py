"""`Storages`: what a pickle of `torch.save` keeps outside itself, by the ids that it gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gatescope.checkpoints.formats.placeholders import WHOLE_MODULE, Global
from gatescope.errors import CheckpointError
from gatescope.pipeline.stored_tensors import MOST_COUNT, STORAGES, Storage
from gatescope.source import Source


class Storages:
    """Every storage that the pickle declares, by its key."""

    def __init__(self, source: Source, locate: Callable[[str, Storage], None] | None = None) -> None:
        """`locate` gives a storage its place, or refuses it, as soon as it is declared."""
        self.by_key: dict[str, Storage] = {}
        self._source = source
        self._locate = locate

    def persistent(self, saved_id: Any) -> Storage | Global:
        """What an id stands for: a storage, or, in old files, the class of a module beside its source code.

        Raises:
            TypeError: it is no id of `torch.save`, or contradicts an earlier one of the same storage.
            CheckpointError: the file does not have such a storage.
        """
        match saved_id:
            case ("module", Global() as module, *_):
                return module
            case ("module", *_):
                raise CheckpointError(WHOLE_MODULE)
            case ("storage", Global(kind), str(key), str(), int(numel), *views) if not any(
                view is not None for view in views
            ):
                return self._declare(key, kind, numel)
        raise TypeError(saved_id)

    def _declare(self, key: str, kind: str, numel: int) -> Storage:
        dtype = STORAGES.get(kind)
        if dtype is None or not 0 <= numel <= MOST_COUNT:
            raise TypeError(kind)
        storage = self.by_key.get(key)
        if storage is None:
            storage = Storage(dtype, numel, self._source)
            if self._locate:
                self._locate(key, storage)
            self.by_key[key] = storage
        elif (storage.dtype, storage.numel) != (dtype, numel):
            raise TypeError(key)
        return storage
