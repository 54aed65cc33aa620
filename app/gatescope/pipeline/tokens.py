"""Token inputs: what of a vocabulary the manifest states."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from gatescope.errors import Place
from gatescope.pipeline.config import Config
from gatescope.pipeline.vocabulary import Kind, Unknown

MOST_IDS = 10_000_000  # more than any vocabulary has


class TokenInputs(Config):
    """The model takes tokens: ids (batch, time), or text where its vocabulary can split it."""

    kind: Literal["tokens"]
    """`tokens`."""

    vocabulary: Kind
    """What a token is: `characters`, `words` (and punctuation marks), or just `ids`: then no text is read."""

    characters: str | None = None
    """The vocabulary of characters, in the order of their ids."""

    file: str | None = None
    """The file with the vocabulary, beside the manifest: one entry a line, in the order of their ids."""

    size: int | None = Field(default=None, ge=1, le=MOST_IDS)
    """With `vocabulary = "ids"`: how many ids there are."""

    unknown: Unknown = "refuse"
    """What happens to a token outside the vocabulary: `refuse` (422), `token` (read as `unknown_token`), or `suffix`
    (words only: read lower-cased, else as the entry "<shape> <ending>" with the longest ending that is listed)."""

    unknown_token: str | None = None
    """The entry that stands for unknown tokens, with `unknown = "token"`."""

    lowercase: bool = False
    """Whether a text is lower-cased before it is split."""

    padding: int | None = Field(default=None, ge=0, le=MOST_IDS)
    """The id that stands for no token: the training skipped it, so a request must leave it out (422)."""

    def skipped(self, sequence: np.ndarray) -> Place | None:
        """The first id of a (time,) sequence that is the padding."""
        places = np.flatnonzero(sequence == self.padding) if self.padding is not None else np.empty(0)
        if not len(places):
            return None
        message = f"is {self.padding}, which stands for padding: the model skips it, so leave it out of the sequence"
        return Place((int(places[0]),), message)

    @model_validator(mode="after")
    def _one_source(self) -> TokenInputs:
        if (self.vocabulary == "ids") != (self.size is not None):
            raise ValueError('`size` goes with `vocabulary = "ids"`, and only with it')
        if self.vocabulary == "ids" and self.model_fields_set & {
            "characters",
            "file",
            "unknown",
            "unknown_token",
            "lowercase",
        }:
            raise ValueError("a vocabulary of ids has a `size`, and neither entries nor a rule for unknown ones")
        if self.vocabulary != "ids" and (self.characters is None) == (self.file is None):
            raise ValueError("give the vocabulary as either `characters` or `file`")
        if self.vocabulary == "words" and self.file is None:
            raise ValueError("a vocabulary of words comes from a `file`")
        if (self.unknown == "token") != (self.unknown_token is not None):
            raise ValueError('`unknown_token` goes with `unknown = "token"`, and only with it')
        if self.unknown == "suffix" and self.vocabulary != "words":
            raise ValueError('`unknown = "suffix"` is a rule for words')
        return self
