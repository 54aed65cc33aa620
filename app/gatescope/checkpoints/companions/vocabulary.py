"""`read_vocabulary`: a vocabulary in a file; `find_vocabulary`, `find_labels`: in the plain data beside weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatescope.checkpoints.companions import plain
from gatescope.checkpoints.companions.plain import Unreadable, in_python, listed, shown
from gatescope.checkpoints.companions.tokens import filler
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.tokens import MOST_IDS

MOST_BYTES = 32 * 2**20
LONGEST_ENTRY = 1000
MOST_GAPS = 1000
"""Ids that no entry has; a dictionary with more gaps than this and than half its entries is about something else."""

MOST_SPARE = 128
"""Rows of an embedding beyond its vocabulary: tables are padded to a multiple of 8, 64 or 128."""

MOST_DEPTH = 4
MOST_VISITED = 10_000

_ID = r"(?:i|id|ids|idx|ix|index|indices|int|num)"
_WORD = r"(?:c|ch|chr|char|chars|character|w|word|words|tok|token|tokens|s|src|source|text|letter|symbol)"
_LABEL = (
    r"(?:tag|tags|label|labels|lab|lang|langs|language|class|classes|cls|target|tgt|intent|category|cat|ner|pos|y|t|l)"
)
_BETWEEN = r"_?(?:to|2)_?"
_VOCABULARY = re.compile(
    rf"{_WORD}{_BETWEEN}{_ID}|{_ID}{_BETWEEN}{_WORD}|(?:{_WORD}_?)?(?:vocab|vocabulary|dictionary|dict|map|mapping)"
    rf"|stoi|itos|word_?index|index_?word|char_?index|chars|characters|alphabet|tokens|words|vocab_?(?:list|dict|itos|stoi)"
)
_LABELS = re.compile(
    rf"{_LABEL}{_BETWEEN}{_ID}|{_ID}{_BETWEEN}{_LABEL}|{_LABEL}_?(?:names|list|map|mapping|dict|vocab|encoder|set)"
    rf"|labels|label|classes|classes_|class|tags|categories|languages|langs|intents|target_names|tagset"
)


_SURROGATE = re.compile("[\ud800-\udfff]")
"""JSON can write these halves of characters, but no text has them."""


@dataclass(frozen=True)
class VocabularyFile:
    """A vocabulary in the order of its ids."""

    entries: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """What fits in the plain data beside weights; without entries, the note says why nothing was taken."""

    entries: tuple[str, ...] | None = None
    source: str | None = None
    """Where it is: `hyper_parameters.char_to_idx`."""
    notes: tuple[str, ...] = ()


def read_vocabulary(path: Path) -> VocabularyFile:
    """The vocabulary in a file of one entry a line, or in JSON or YAML.

    JSON is a list, `{token: id}`, `{id: token}`, Keras's `word_index` or tokenizer, or the `tokenizer.json` of a
    tokenizer that splits text into words. Ids that no entry has get entries that no text gives.

    Raises:
        InvalidInput: it cannot be read, is a pickle, or is no vocabulary; the place and the remedy are named.
    """
    try:
        return _read(path)
    except Unreadable as error:
        raise InvalidInput.at(Place(("vocabulary",), f"{path.name}: {error}")) from None


def find_vocabulary(beside: Mapping[Any, Any], size: int | None) -> Match:
    """The vocabulary in the plain data beside weights.

    Args:
        beside: the data, nested.
        size: how many rows the embedding has, some of which may be spare; None where it is not known.

    Returns:
        The one that fits; of several, the one that has exactly `size` entries. None where several fit equally.
    """
    fitting = _candidates(beside, _VOCABULARY, lambda count: size is None or _fits(count, size))
    exact = [each for each in fitting if len(each[1]) == size]
    return _one_of(exact or fitting, "vocabularies", "--vocabulary FILE")


def find_labels(beside: Mapping[Any, Any], count: int) -> Match:
    """The labels in the plain data beside weights: exactly `count` of them, with the ids 0 to count − 1."""
    fitting = _candidates(beside, _LABELS, lambda found: found == count)
    return _one_of([each for each in fitting if not each[2]], "lists of labels", "--labels a,b,…")


def _read(path: Path) -> VocabularyFile:
    content = plain.read_bytes(path, MOST_BYTES)
    if plain.is_pickle(path, content):
        raise Unreadable(_export(path))
    suffix = path.suffix.lower()
    is_yaml = suffix in plain.YAML_SUFFIXES
    if is_yaml or suffix == ".json":
        return _of_data(plain.parse(content, is_yaml=is_yaml))
    return _of_lines(plain.text_of(content))


def _fits(count: int, size: int) -> bool:
    return count <= size and size - count <= min(MOST_SPARE, count)


_Found = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Where it is, its entries, and what there is to note."""


def _one_of(found: Sequence[_Found], what: str, remedy: str) -> Match:
    different = {entries: (source, notes) for source, entries, notes in reversed(found)}
    if not different:
        return Match()
    if len(different) > 1:
        names = listed(source for source, _ in reversed(different.values()))
        return Match(notes=(f"Several {what} stand beside the weights: {names}; none is taken ({remedy}).",))
    ((entries, (source, notes)),) = different.items()
    return Match(entries, source, notes)


def _candidates(beside: Mapping[Any, Any], names: re.Pattern[str], fits: Callable[[int], bool]) -> list[_Found]:
    found: list[_Found] = []
    for source, name, value in _walk(beside):
        if not names.fullmatch(name.lower()) or not isinstance(value, (Mapping, list, tuple)):
            continue
        if len(value) > MOST_IDS or len(value) < 1:
            continue
        try:
            read = _entries(value)
        except Unreadable:
            continue
        if fits(len(read.entries)):
            found.append((source, read.entries, read.notes))
    return found


def _walk(beside: Mapping[Any, Any]) -> Iterator[tuple[str, str, Any]]:
    """Where each named value is, its name, and the value; bounded in depth and number."""
    waiting: list[tuple[str, Any, int]] = [("", beside, 0)]
    visited = 0
    while waiting:
        path, value, depth = waiting.pop(0)
        for key, each in value.items():
            visited += 1
            if visited > MOST_VISITED:
                return
            if not isinstance(key, str):
                continue
            yield f"{path}{key}", key, each
            if isinstance(each, Mapping) and depth < MOST_DEPTH and not _is_table(each):
                waiting.append((f"{path}{key}.", each, depth + 1))


def _is_table(value: Mapping[Any, Any]) -> bool:
    """Whether a mapping is of one number or text a key, so that there is nothing below."""
    return len(value) > MOST_VISITED or not any(isinstance(each, (Mapping, list, tuple)) for each in value.values())


def _of_lines(text: str) -> VocabularyFile:
    lines = text.removesuffix("\n").split("\n")
    notes = []
    if all(line.endswith("\r") for line in lines[:-1]) and len(lines) > 1:
        lines = [line.removesuffix("\r") for line in lines]
        notes.append("The vocabulary's lines end as Windows writes them; the carriage returns are not part of entries.")
    if lines == [""]:
        raise Unreadable("is empty: a vocabulary has one entry a line, in the order of the ids")
    if lines.count("") > 1:
        numbers = [number for number, line in enumerate(lines, 1) if not line]
        raise Unreadable(
            f"lines {numbers[0]} and {numbers[1]} are blank: if a line break is an entry, give the vocabulary as JSON, "
            "a list of the entries in the order of their ids"
        )
    return VocabularyFile(_checked(lines, "line", 1), tuple(notes))


def _of_data(data: Any) -> VocabularyFile:
    if isinstance(data, Mapping):
        special = _of_tokenizer(data) or _of_keras(data)
        if special is not None:
            return special
        if any(isinstance(value, (Mapping, list)) for value in data.values()):
            return _within(data)
    return _entries(data)


def _within(data: Mapping[Any, Any]) -> VocabularyFile:
    """The one vocabulary below a name, as in {"char_to_idx": {…}, "lang_to_idx": {…}}."""
    match = find_vocabulary(data, None)
    if match.entries is None:
        why = match.notes[0] if match.notes else f"under none of its names {listed(data)} is a vocabulary"
        raise Unreadable(f"{why.removesuffix('.')}: give the list or the dictionary of entries alone")
    return VocabularyFile(match.entries, (f"The vocabulary is {match.source} of the file.", *match.notes))


def _of_tokenizer(data: Mapping[Any, Any]) -> VocabularyFile | None:
    """Of Hugging Face's `tokenizer.json`."""
    model = data.get("model")
    if not isinstance(model, Mapping) or "vocab" not in model:
        return None
    if model.get("type", "WordLevel") != "WordLevel":
        raise Unreadable(
            f"is a tokenizer of type {shown(model.get('type'))}, which splits text into parts of words; here text is "
            "split into characters or words: leave the vocabulary out, and send ids"
        )
    ids = dict(model["vocab"]) if isinstance(model["vocab"], Mapping) else {}
    added = data.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        if isinstance(token, Mapping) and isinstance(token.get("content"), str):
            ids.setdefault(token["content"], token.get("id"))
    return _entries(ids)


def _of_keras(data: Mapping[Any, Any]) -> VocabularyFile | None:
    """Of a Keras `Tokenizer.to_json()`, or of {"word_index": {…}} alone."""
    config = data.get("config", data)
    if not isinstance(config, Mapping) or "word_index" not in config:
        return None
    index = config["word_index"]
    if isinstance(index, str):
        index = plain.parse(index.encode(errors="replace"), is_yaml=False)
    found = _entries(index)
    most = config.get("num_words")
    if isinstance(most, int) and 0 < most < len(found.entries):
        note = f"Keras's tokenizer gives no id from {most} on (num_words); those entries are left out."
        return VocabularyFile(found.entries[:most], (*found.notes, note))
    return found


def _entries(data: Any) -> VocabularyFile:
    if isinstance(data, (list, tuple)):
        return VocabularyFile(_checked(data, "entry", 0))
    if not isinstance(data, Mapping):
        raise Unreadable("is no vocabulary: it must be a list of entries, {token: id} or {id: token}")
    if not data:
        raise Unreadable("is empty")
    return _filled(_by_id(data))


def _by_id(data: Mapping[Any, Any]) -> dict[int, str]:
    """{token: id} or {id: token} -> by id."""
    found: dict[int, str] = {}
    values_are_ids = not any(isinstance(value, str) for value in data.values())
    for key, value in data.items():
        token, number = (key, value) if values_are_ids else (value, key)
        if not values_are_ids and isinstance(number, str):
            number = _digits(number)
        if not isinstance(token, str):
            raise Unreadable(f"has {shown(token)} where a token is expected: {{token: id}} or {{id: token}} is read")
        if isinstance(number, bool) or not isinstance(number, int):
            raise Unreadable(f"{shown(token)} has the id {shown(number)}, which is no whole number")
        if number < 0:
            raise Unreadable(f"{shown(token)} has the id {number}: ids begin at 0")
        if number in found:
            raise Unreadable(f"{shown(found[number])} and {shown(token)} have the same id {number}: keep one of them")
        found[number] = token
    return found


def _digits(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_IDS)) else text


def _filled(by_id: Mapping[int, str]) -> VocabularyFile:
    size = max(by_id) + 1
    absent = size - len(by_id)
    if size > MOST_IDS or absent > max(MOST_GAPS, len(by_id) // 2):
        raise Unreadable(
            f"{shown(by_id[size - 1])} has the id {size - 1:,}, but there are {len(by_id):,} entries: ids are places "
            "in a list, so number them from 0"
        )
    taken = set(by_id.values())
    entries = [by_id[index] if index in by_id else filler(index, taken) for index in range(size)]
    if not absent:
        return VocabularyFile(_checked(entries, "id", 0))
    places = listed(index for index in range(size) if index not in by_id)
    note = f"No entry has the id {places}; such ids are called {shown(filler(next(_gaps(by_id)), taken))} and the like."
    return VocabularyFile(_checked(entries, "id", 0), (note,))


def _gaps(by_id: Mapping[int, str]) -> Iterator[int]:
    return (index for index in range(max(by_id) + 1) if index not in by_id)


def _checked(entries: Sequence[Any], place: str, first: int) -> tuple[str, ...]:
    """Text, each once.

    Args:
        entries: in the order of their ids.
        place: what a place in the file is called.
        first: the number of the first place.
    """
    if not entries:
        raise Unreadable("is empty")
    if len(entries) > MOST_IDS:
        raise Unreadable(f"has {len(entries):,} entries; up to {MOST_IDS:,} are read")
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries, first):
        if not isinstance(entry, str):
            raise Unreadable(f"{place} {index} is {shown(entry)}, not text")
        if len(entry) > LONGEST_ENTRY or _SURROGATE.search(entry):
            most = f"one is text of up to {LONGEST_ENTRY} characters"
            raise Unreadable(f"{place} {index} is {shown(entry)}, which is no entry: {most}")
        if entry in seen:
            raise Unreadable(f"{shown(entry)} stands in {place} {seen[entry]} and {index}: an entry has one id")
        seen[entry] = index
    return tuple(entries)


def _export(path: Path) -> str:
    name, exported = in_python(path.name), in_python(f"{path.stem}.json")
    return (
        "is a pickle or an archive of one, which can run code, and is not read. Export it where it was made: import "
        f'json, pickle; json.dump(pickle.load(open({name}, "rb")), open({exported}, "w")). Of an object, take its '
        f"dictionary: .word_index, .stoi, .get_stoi(). Of a torch.save file, write torch.load({name}) in place of "
        f"pickle.load(…). Then give {path.stem}.json"
    )
