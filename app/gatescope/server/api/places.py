"""What is wrong with a request, told at its place in the body."""

from __future__ import annotations

from typing import NoReturn

from gatescope.errors import InvalidInput, Place


class in_body:  # noqa: N801 - `with` this
    """Say of what is wrong with a query in the request's own words: its places stand in the body."""

    __slots__ = ("_within",)

    def __init__(self, *within: str) -> None:
        self._within = within

    def __enter__(self) -> None:
        """Nothing is wrong yet."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Place what is wrong."""
        if isinstance(error, InvalidInput):
            raise placed_in_body(error, *self._within) from None


def placed_in_body(error: InvalidInput, *within: str) -> InvalidInput:
    """The same of the places in the request's own words; what has no place is as it was."""
    if not error.places:
        return error
    return InvalidInput.at(*(Place(("body", *within, *place.loc), place.message) for place in error.places))


def refuse(message: str, *loc: str | int) -> NoReturn:
    """Refuse a request for what stands at this place in its body; raises `InvalidInput`."""
    raise InvalidInput.at(Place(("body", *loc), message))
