"""Check records of third-party packages against the types that their fields declare.

Python does not check them: a version that is a number, or attention without a text for its method,
would fail only when a file is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lesionlens.base.errors import PluginError
from lesionlens.base.text import encodable

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Record = TypeVar("Record")


def validated_record(record: Any, kind: type[Record], who: str) -> Record:
    """Return a record with every field of its declared type.

    Arrays and functions are kept; equivalent values are converted: a list to a tuple, "t1" to
    `MrSequence.T1`, numpy's numbers to Python's. Text that no file can hold is escaped.

    Parameters
    ----------
    who : str
        Who made it, from `plugins.name_of`.

    Raises
    ------
    PluginError
        It is something else, or a field has another type; the message does not repeat the value,
        which may name a patient.
    """
    from pydantic import ValidationError

    try:
        (validated,) = _adapter(kind).validate_python([record])  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        field_path = ".".join((kind.__name__, *map(str, first["loc"][1:])))
        expected = first["msg"].removeprefix("Input should be ")
        why = f"gave {field_path} as {type(first['input']).__name__}, not {expected}"
        raise PluginError(who=who, why=why) from error
    return cast("Record", _written(validated))


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[list[Any]]:
    from pydantic import ConfigDict, TypeAdapter

    rules = ConfigDict(arbitrary_types_allowed=True, revalidate_instances="always", extra="forbid")
    return TypeAdapter(list[kind], config=rules)  # type: ignore[valid-type]  # a list takes rules


def _written(value: Any) -> Any:
    """Return a value with all its text as files can hold it."""
    if type(value) is str:
        return encodable(value)
    if is_dataclass(value):
        values = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return replace(value, **{name: _written(item) for name, item in values.items()})  # type: ignore[type-var]
    if type(value) is tuple:
        return tuple(map(_written, value))
    if isinstance(value, Mapping):
        return {_written(key): _written(item) for key, item in value.items()}
    return value
