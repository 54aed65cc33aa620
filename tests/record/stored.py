"""The record on disk: one compressed file of lines for each configuration, a reply in each line."""

import json
import lzma
from collections.abc import Mapping
from pathlib import Path

from normalise import Recorded

FOLDER = Path(__file__).parent / "replies"
PRESET = 9 | lzma.PRESET_EXTREME


def path_of(configuration: str) -> Path:
    """Where the replies of a configuration are kept."""
    return FOLDER / f"{configuration}.jsonl.xz"


def read(configuration: str) -> dict[str, Recorded]:
    """The recorded replies by name, in the order in which they came."""
    if not path_of(configuration).exists():
        return {}
    with lzma.open(path_of(configuration), "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return {line.pop("name"): line for line in lines}


def write(configuration: str, replies: Mapping[str, Recorded]) -> None:
    """Keep these replies."""
    FOLDER.mkdir(exist_ok=True)
    lines = [json.dumps({"name": name} | reply, ensure_ascii=False) + "\n" for name, reply in replies.items()]
    with lzma.open(path_of(configuration), "wt", encoding="utf-8", preset=PRESET) as file:
        file.writelines(lines)
