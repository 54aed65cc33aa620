"""The files of `torch.save` before PyTorch 1.6: five pickles, then the storages, one after another."""

from __future__ import annotations

from io import BytesIO
from typing import BinaryIO

from gatescope.checkpoints.formats.pickle_calls import Made
from gatescope.checkpoints.formats.pickled import MOST_BYTES as MOST_PICKLE_BYTES
from gatescope.checkpoints.formats.pickled import Survey
from gatescope.errors import CheckpointError

BEGINS = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
"""The pickles of `torch.serialization`'s MAGIC_NUMBER and PROTOCOL_VERSION."""

DAMAGED = "it is damaged or cut off; copy or save the file again"


def survey(file: BinaryIO, size: int) -> Survey:
    """What is in such a file, without having read a tensor of it.

    Raises:
        CheckpointError: it is damaged, declares more than it is long, or its pickle asks for more than weights.
    """
    file.seek(len(BEGINS))
    pickles = BytesIO(file.read(MOST_PICKLE_BYTES))
    Survey(pickles).run()  # of the system that saved it
    seen = Survey(pickles)
    seen.run()
    keys = Survey(pickles).run()
    # A storage that is declared and not in the file would be made of whatever lay in memory.
    if not isinstance(keys, Made) or not all(isinstance(key, str) for key in keys.items):
        raise CheckpointError(DAMAGED)
    if sorted(keys.items) != sorted(seen.storages):
        raise CheckpointError(DAMAGED)
    offset = len(BEGINS) + pickles.tell()
    for key in keys.items:
        file.seek(offset)
        if int.from_bytes(file.read(8), "little") != seen.storages[key].numel:
            raise CheckpointError(DAMAGED)
        offset += 8 + seen.storages[key].nbytes
    if offset != size:
        raise CheckpointError(DAMAGED)
    return seen
