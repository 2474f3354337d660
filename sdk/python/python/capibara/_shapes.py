"""Type hints as JSON Schema, and as checks of what a script sent: a function that says `int` is never called with a `str`."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import json
import types
import typing
from collections.abc import Callable
from typing import Any

from ._errors import ToolArgumentError

Check = Callable[[Any], Any]


class Mismatch(Exception):
    """A value is not of the shape that was asked for."""


def _exactly(name: str, *classes: type) -> Check:
    def check(value: Any) -> Any:
        # `True` is an `int` for Python, and none for JSON.
        if not isinstance(value, classes) or (isinstance(value, bool) and bool not in classes):
            raise Mismatch(f"expected {name}, got {_name(value)}")
        return value

    return check


def _name(value: Any) -> str:
    names = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


def _float(value: Any) -> float:
    return float(_exactly("number", int, float)(value))


_PLAIN: dict[Any, tuple[dict[str, Any], Check]] = {
    Any: ({}, lambda value: value),
    object: ({}, lambda value: value),
    None: ({"type": "null"}, _exactly("null", type(None))),
    type(None): ({"type": "null"}, _exactly("null", type(None))),
    bool: ({"type": "boolean"}, _exactly("boolean", bool)),
    int: ({"type": "integer"}, _exactly("integer", int)),
    float: ({"type": "number"}, _float),
    str: ({"type": "string"}, _exactly("string", str)),
}
_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def shape(hint: Any) -> tuple[dict[str, Any], Check]:
    """The JSON Schema of a hint, and a function that gives the value of that type or raises `Mismatch`.

    Raises `TypeError` for a hint that JSON has no shape for.
    """
    try:
        if hint in _PLAIN:
            return _PLAIN[hint]
    except TypeError:  # Not hashable, so none of them.
        pass
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        schema, check = shape(inner[0])
        texts = [text for text in inner[1:] if isinstance(text, str)]
        return ({**schema, "description": " ".join(texts)} if texts else schema), check
    if origin in (typing.Union, types.UnionType):
        return _union([shape(one) for one in inner])
    if origin is typing.Literal:
        return {"enum": list(inner)}, _one_of(inner)
    if hint is tuple or origin is tuple:
        return _tuple(inner)
    if hint in _LISTS or origin in _LISTS:
        schema, check = shape(inner[0]) if inner else ({}, _PLAIN[Any][1])
        return {"type": "array", "items": schema}, _each(check)
    if hint in _DICTS or origin in _DICTS:
        if inner and inner[0] is not str:
            raise TypeError(f"the keys of JSON objects are texts: `{hint}` has others")
        schema, check = shape(inner[1]) if inner else ({}, _PLAIN[Any][1])
        return {"type": "object", "additionalProperties": schema}, _values(check)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = [member.value for member in hint]
        check = _one_of(values)
        return {"enum": values}, lambda value: hint(check(value))
    if typing.is_typeddict(hint):
        return _fields(typing.get_type_hints(hint, include_extras=True), hint.__required_keys__, dict)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        fields = [field for field in dataclasses.fields(hint) if field.init]
        hints = typing.get_type_hints(hint, include_extras=True)
        missing = dataclasses.MISSING
        required = {field.name for field in fields if field.default is missing and field.default_factory is missing}
        return _fields({field.name: hints[field.name] for field in fields}, required, hint)
    raise TypeError(f"JSON has no shape for `{hint}`")


def _union(shapes: list[tuple[dict[str, Any], Check]]) -> tuple[dict[str, Any], Check]:
    def check(value: Any) -> Any:
        told = []
        for _, one in shapes:
            try:
                return one(value)
            except Mismatch as mismatch:
                told.append(str(mismatch))
        raise Mismatch("; or ".join(told))

    schemas = [schema for schema, _ in shapes]
    if all(list(schema) == ["type"] for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}, check
    return {"anyOf": schemas}, check


def _one_of(values: collections.abc.Sequence[Any]) -> Check:
    def check(value: Any) -> Any:
        for known in values:
            if type(known) is type(value) and known == value:
                return known
        raise Mismatch(f"expected one of {', '.join(map(repr, values))}")

    return check


def _each(check: Check) -> Check:
    array = _exactly("array", list)
    return lambda value: [_at(f"item {at}", check, one) for at, one in enumerate(array(value))]


def _values(check: Check) -> Check:
    as_object = _exactly("object", dict)
    return lambda value: {name: _at(f"`{name}`", check, one) for name, one in as_object(value).items()}


def _tuple(inner: tuple[Any, ...]) -> tuple[dict[str, Any], Check]:
    if not inner or inner[-1] is Ellipsis:
        schema, check = shape(inner[0]) if inner else ({}, _PLAIN[Any][1])
        each = _each(check)
        return {"type": "array", "items": schema}, lambda value: tuple(each(value))
    shapes = [shape(one) for one in inner]
    array = _exactly("array", list)

    def check_all(value: Any) -> Any:
        if len(array(value)) != len(shapes):
            raise Mismatch(f"expected {len(shapes)} items, got {len(value)}")
        return tuple(_at(f"item {at}", one, part) for at, ((_, one), part) in enumerate(zip(shapes, value)))

    size = {"minItems": len(shapes), "maxItems": len(shapes)}
    return {"type": "array", "prefixItems": [schema for schema, _ in shapes], **size}, check_all


def _fields(
    hints: dict[str, Any], required: collections.abc.Set[str], make: Callable[..., Any]
) -> tuple[dict[str, Any], Check]:
    shapes = {name: shape(hint) for name, hint in hints.items()}
    as_object = _exactly("object", dict)

    def check(value: Any) -> Any:
        for name in as_object(value):
            if name not in shapes:
                raise Mismatch(f"there is no `{name}`")
        for name in shapes:
            if name in required and name not in value:
                raise Mismatch(f"`{name}` is missing")
        return make(**{name: _at(f"`{name}`", shapes[name][1], one) for name, one in value.items()})

    schema = {
        "type": "object",
        "properties": {name: schema for name, (schema, _) in shapes.items()},
        "required": [name for name in shapes if name in required],
        "additionalProperties": False,
    }
    return schema, check


def _at(place: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except Mismatch as mismatch:
        raise Mismatch(f"{place}: {mismatch}") from None


def parameters(function: Callable[..., Any]) -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """The JSON Schema of a function's arguments, and a function that checks arguments or raises `ToolArgumentError`.

    Raises `TypeError` for a function that cannot be called by keywords, or has hints that JSON has no shape for.
    """
    hinted = function if inspect.isroutine(function) else getattr(function, "func", type(function).__call__)
    hints = typing.get_type_hints(hinted, include_extras=True)
    properties: dict[str, Any] = {}
    checks: dict[str, Check] = {}
    required: list[str] = []
    others = False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            others = True
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"a script calls tools by keywords, and `{name}` takes none")
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            schema, checks[name] = shape(hints.get(name, Any))
            if parameter.default is parameter.empty:
                required.append(name)
            elif _is_json(parameter.default):
                schema = {**schema, "default": parameter.default}
            properties[name] = schema

    def check(arguments: dict[str, Any]) -> dict[str, Any]:
        for name in required:
            if name not in arguments:
                raise ToolArgumentError(f"the argument `{name}` is missing")
        checked = {}
        for name, value in arguments.items():
            if name in checks:
                try:
                    checked[name] = checks[name](value)
                except Mismatch as mismatch:
                    raise ToolArgumentError(f"`{name}`: {mismatch}") from None
            elif others:
                checked[name] = value
            else:
                raise ToolArgumentError(f"there is no argument `{name}`")
        return checked

    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": others}
    return schema, check


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
