"""`begin`: a data set that comes as the body of a request, on the disk before it is looked at."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from starlette.datastructures import QueryParams

from gatescope.errors import BodyTooLarge, InvalidInput, Place, Unavailable, UnsupportedMediaType
from gatescope.pipeline.model import Model
from gatescope.server.api import body, query, table_bodies
from gatescope.server.api.context import Context
from gatescope.server.api.corpora import sources, tracing
from gatescope.server.api.messages import Head, Request
from gatescope.server.api.parameters import CORPUS_UPLOAD, TABLE
from gatescope.server.api.schema.corpora import CorpusRequest
from gatescope.server.api.v1.sessions import model_named_in
from gatescope.server.serving.corpora import Corpus, uploaded_in
from gatescope.server.serving.uploads import ended, write
from gatescope.tables.sequences import Reading

SHOWN = "the upload"
_OPTIONS = tuple(name for name in TABLE if name != "id")
_JSON = "application/json"


def is_upload(head: Head) -> bool:
    """Whether the body is said to be a data set.

    Raises:
        UnsupportedMediaType: it is neither one nor JSON, or it comes compressed.
    """
    given = table_bodies.media_type(head)
    if given == _JSON or (given.startswith("application/") and given.endswith("+json")):
        return False
    if given not in sources.MEDIA_TYPES:
        known = ", ".join(sources.MEDIA_TYPES)
        told = given or "without one"
        raise UnsupportedMediaType(
            f"send {_JSON} that names a 'source', or the data set itself with a 'Content-Type' of {known}; not {told}"
        )
    table_bodies.check_encoding(head)
    return True


async def begin(request: Request) -> Corpus:
    """Make a corpus of the body; nothing is left where it is refused.

    Raises:
        AppError: as `POST /v1/corpora` answers.
    """
    here, kind = request.context, table_bodies.media_type(request.head)
    suffix, given = sources.MEDIA_TYPES[kind], QueryParams(request.head.query_values)
    table_bodies.check_query(given, (*CORPUS_UPLOAD, *TABLE))
    model, asked = _asked(here, given)
    with _placed():
        sources.check_kind(suffix, model, asked.id)
    reading = _reading(given, suffix, model)
    async with _received(request, suffix) as folder:
        await ended(_check, here, uploaded_in(folder, suffix), model, reading)
        told, options = (model.name, model.version, model.fingerprint), {n: given[n] for n in _OPTIONS if n in given}
        said = asked.name, told, (kind, suffix), asked.id, options
        return await ended(here.corpora.begin_of_upload, folder, request.owner, *said)


def _asked(here: Context, given: QueryParams) -> tuple[Model, CorpusRequest]:
    named: dict[str, Any] = {name: given[name] for name in (*CORPUS_UPLOAD, "id") if name in given}
    with _placed():
        model = model_named_in(named, here)
        return model, body.validate(named | {"source": SHOWN}, CorpusRequest, query.expected(model))


def _reading(given: QueryParams, suffix: str, model: Model) -> Reading:
    is_table = suffix in sources.TABLES and model.vocabulary is None
    for name in _OPTIONS:
        if name in given and not is_table:
            raise InvalidInput.at(Place(("query", name), "goes with a table"))
    return table_bodies.reading_in(given)


@asynccontextmanager
async def _received(request: Request, suffix: str) -> AsyncIterator[Path]:
    """The hidden folder with the file that the body is; it is removed if nothing became of it."""
    here = request.context
    most, room = here.limits.max_upload_bytes, await asyncio.to_thread(_room, here)
    folder = await ended(here.corpora.begin_upload)
    try:
        try:
            await write(request.pieces(min(most, room), here.limits.request_timeout_s), uploaded_in(folder, suffix))
        except BodyTooLarge:
            if room < most:
                raise _full(here) from None
            raise
        except OSError as error:
            raise Unavailable(f"the folder of corpora takes no more: {error.strerror or error}") from error
        yield folder
    finally:
        await ended(shutil.rmtree, folder, ignore_errors=True)


def _room(here: Context) -> int:
    room = here.corpora.most_bytes - here.corpora.bytes()
    if room <= 0:
        raise _full(here)
    return room


def _full(here: Context) -> Unavailable:
    return Unavailable(f"this server keeps at most {here.corpora.most_bytes:,} bytes of corpora: delete some")


def _check(here: Context, path: Path, model: Model, reading: Reading) -> None:
    with _placed():
        sources.check(path, model, reading.id, SHOWN)
        tracing.check(here, path, model, reading, SHOWN)


@contextmanager
def _placed() -> Iterator[None]:
    """Say of what a JSON body would have named that it stands in the query, and the source in the body."""
    try:
        yield
    except InvalidInput as error:
        placed = InvalidInput.at(*map(_of_upload, error.places)) if error.places else error
        is_of_places = error.places and error.detail == InvalidInput.at(*error.places).detail
        raise placed if is_of_places else InvalidInput(error.detail, placed.places) from None


def _of_upload(place: Place) -> Place:
    match place.loc:
        case ("body", "source"):
            return Place(("body",), place.message)
        case ("body", ("id" | "model" | "name" | "version") as name, *_):
            return Place(("query", name), place.message)
    return place
