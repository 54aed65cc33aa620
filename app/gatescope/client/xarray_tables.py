"""Data sets and arrays of xarray as data frames of pandas, which xarray brings."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gatescope.errors import InvalidInput, Place

if TYPE_CHECKING:
    import pandas as pd
    import xarray

TIME = "time"


def is_array(value: Any) -> bool:
    """Whether it is a Dataset, or a DataArray whose axes have names; any other is an array."""
    module = sys.modules.get("xarray")
    if module is None:
        return False
    return isinstance(value, module.Dataset) or (isinstance(value, module.DataArray) and len(value.coords) > 0)


def frames_of(given: Any, name: str | None, timestamps: str | None) -> tuple[Any, str | None]:
    """The same with frames in place of what is of xarray, and what tells the sequences of a frame apart.

    Args:
        given: a Dataset whose variables are features, a DataArray with one dimension of named features, a list or a
            dictionary of such, each of one sequence, or something else.
        name: of the dimension that tells sequences apart; may be left out where it is the only one left.
        timestamps: the dimension of time; `time` when not given.

    Raises:
        InvalidInput: a dimension is missing, or not known; a variable has no time.
    """
    if is_array(given):
        return _frame(given, name, timestamps)
    if isinstance(given, Mapping):
        return {key: _lone(each, timestamps) for key, each in given.items()}, name
    if isinstance(given, list | tuple) and any(map(is_array, given)):
        return [_lone(each, timestamps) for each in given], name
    return given, name


def rows_of(given: Any) -> Any:
    """The same as a frame with a row for each label of the first dimension, where it is of xarray."""
    if not is_array(given):
        return given
    return given.to_dataframe() if hasattr(given, "data_vars") else given.to_pandas()


def _lone(given: Any, timestamps: str | None) -> Any:
    if not is_array(given):
        return given
    frame, name = _frame(given, None, timestamps)
    if name is not None:
        raise _refused(f"one of several sequences has the dimension '{name}' beside that of time")
    return frame


def _frame(given: Any, name: str | None, timestamps: str | None) -> tuple[pd.DataFrame, str | None]:
    time = timestamps or TIME
    if time not in given.dims:
        raise _refused(f"there is no dimension '{time}', but {_listed(given.dims)}: name it (timestamps=)")
    data = given if hasattr(given, "data_vars") else _by_feature(given, name, time)
    others = [str(each) for each in data.dims if each != time]
    if len(others) > 1 or (name is not None and others != [name]):
        raise _refused(f"beside '{time}' one dimension may tell sequences apart (id=); there are {_listed(data.dims)}")
    for variable, values in data.data_vars.items():
        if time not in values.dims:
            raise _refused(f"'{variable}' has no dimension '{time}': give it as static_inputs, or leave it out")
    frame = data.to_dataframe(dim_order=[*others, time])[list(data.data_vars)]
    return frame, others[0] if others else None


def _by_feature(array: xarray.DataArray, name: str | None, time: str) -> xarray.Dataset:
    """With a variable for each feature."""
    free = [str(each) for each in array.dims if each not in {time, name}]
    if len(free) != 1:
        raise _refused(f"of the dimensions {_listed(array.dims)} say which one tells sequences apart (id=)")
    if free[0] not in array.coords:
        raise _refused(f"the dimension '{free[0]}' needs the names of the features as its coordinate")
    return array.drop_vars([each for each in array.coords if each not in array.dims]).to_dataset(dim=free[0])


def dataset_of(frames: Mapping[Any, pd.DataFrame], name: str) -> xarray.Dataset:
    """The Dataset of a frame, or of one for each id; times with a zone are in UTC.

    Args:
        frames: by id, each with the labels of its steps as the index.
        name: of the dimension of the ids.
    """
    import pandas as pd  # noqa: PLC0415 - whoever gave a frame has it

    for frame in frames.values():
        index: Any = frame.index
        frame.index = index.tz_convert(None) if getattr(index, "tz", None) is not None else index
        is_time = index.inferred_type in {"datetime64", "period"}
        frame.index.name = index.name or (TIME if is_time else "step")
    is_lone = len(frames) == 1 and None in frames
    made: xarray.Dataset = (frames[None] if is_lone else pd.concat(frames, names=[name])).to_xarray()
    return made


def _listed(names: Sequence[Any] | Any) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _refused(message: str) -> InvalidInput:
    return InvalidInput.at(Place(("inputs",), message))
