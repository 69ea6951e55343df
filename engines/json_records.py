"""
Frozen dataclasses as JSON, and back with every value checked against its type hint.

Known hints: dataclasses (generic ones, too), ``X | None``, ``Literal``, tuples, ``Mapping`` with
text for keys, ``str``, ``int``, ``float``, ``bool``, and ``Any``, which is not looked into.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

__all__ = ["JsonRecordError", "record_from_json", "record_to_json"]

T = TypeVar("T")


class JsonRecordError(ValueError):
    """A JSON value is not the record that it is to be; the message names the place."""


def record_to_json(record: Any) -> dict[str, Any]:
    """Return a record as ``json.loads(json.dumps(record))`` would give it."""
    return cast(dict[str, Any], _plain(asdict(record)))


def record_from_json(kind: type[T], value: Any, place: str = "") -> T:
    """
    Make a record of *kind*, a dataclass, from what ``json.loads`` returned.

    Args:
        kind: What to make.
        value: A JSON object with exactly the fields of *kind*; those with a default may be absent.
        place: Where the value stands, such as ``parity.scores``; for messages.

    Raises:
        JsonRecordError: If a field is missing, unknown, or of another type, or if *kind* refuses
            the values.
    """
    return cast(T, _record(kind, value, place))


def _plain(value: Any) -> Any:
    """Turn tuples into lists, at any depth."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _record(hint: Any, value: Any, place: str) -> Any:
    """Make a dataclass; *hint* may give a generic one its arguments."""
    kind: Any = get_origin(hint) or hint
    given = dict(zip(getattr(kind, "__parameters__", ()), get_args(hint), strict=True))
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    _require(isinstance(value, dict), place, "is not an object")
    unknown = ", ".join(sorted(value.keys() - set(names)))
    _require(not unknown, place, f"has fields that nobody knows: {unknown}")
    found = {
        name: _value(given.get(hints[name], hints[name]), value[name], _below(place, name))
        for name in names
        if name in value
    }
    try:
        return kind(**found)
    except (TypeError, ValueError) as error:
        raise JsonRecordError(f"{place or 'the record'}: {error}") from error


def _value(hint: Any, value: Any, place: str) -> Any:
    """Check one value."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _optional(arguments, value, place)
    if origin is Literal:
        _require(value in arguments, place, f"is {value!r}, not one of {arguments}")
        return value
    if origin in (tuple, Mapping):
        return (_tuple if origin is tuple else _mapping)(arguments, value, place)
    return (_record if is_dataclass(origin or hint) else _scalar)(hint, value, place)


def _optional(arguments: tuple[Any, ...], value: Any, place: str) -> Any:
    """Check what may be None, or text of one Literal or another."""
    some = [each for each in arguments if each is not type(None)]
    if value is None and len(some) < len(arguments):
        return None
    if all(get_origin(each) is Literal for each in some):
        return _value(Literal[tuple(some)], value, place)
    return _value(some[0], value, place)


def _mapping(arguments: tuple[Any, ...], value: Any, place: str) -> dict[str, Any]:
    """Check an object whose values are alike."""
    _require(isinstance(value, dict), place, "is not an object")
    return {name: _value(arguments[1], each, _below(place, name)) for name, each in value.items()}


def _tuple(arguments: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    """Check a list, of any length if the hint ends in an ellipsis."""
    _require(isinstance(value, list), place, "is not a list")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    _require(len(value) == len(arguments), place, f"has {len(value)} values, not {len(arguments)}")
    pairs = zip(arguments, value, strict=True)
    return tuple(_value(hint, each, _below(place, n)) for n, (hint, each) in enumerate(pairs))


def _scalar(kind: Any, value: Any, place: str) -> Any:
    """Check text, a number or a truth value; a whole number may stand for any number."""
    allowed = (int, float) if kind is float else kind
    good = isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
    _require(good, place, f"is {value!r}, not of type {kind.__name__}")
    return float(value) if kind is float else value


def _below(place: str, name: object) -> str:
    """Name what stands inside."""
    return f"{place}.{name}" if place else str(name)


def _require(condition: bool, place: str, what: str) -> None:  # noqa: FBT001
    """Raise unless *condition* holds."""
    if not condition:
        raise JsonRecordError(f"{place or 'the record'} {what}")
