"""JSON Schema from type annotations, and values between JSON and those types.

Understood: ``str int float bool None Any``, ``list[T]``, ``dict[str, T]``, ``T | U``, ``Literal[...]``, enums,
dataclasses, and ``Annotated[T, Field(...)]`` around any of them. Anything else is a TypeError when the plugin is built.
"""

import dataclasses
import enum
import types
import typing
from typing import Any

from .failure import PluginFailure

_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


@dataclasses.dataclass(frozen=True)
class Field:
    """What a schema says of a value beside its type."""

    description: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    min_items: int | None = None
    max_items: int | None = None
    examples: tuple[Any, ...] = ()

    def keywords(self) -> dict[str, Any]:
        """Its JSON Schema keywords."""
        given = {
            "description": self.description,
            "minLength": self.min_length,
            "maxLength": self.max_length,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "pattern": self.pattern,
            "minItems": self.min_items,
            "maxItems": self.max_items,
            "examples": list(self.examples) or None,
        }
        return {name: value for name, value in given.items() if value is not None}


def schema_of(annotation: Any) -> dict[str, Any]:
    """The JSON Schema of a type."""
    annotation, fields = _without_annotated(annotation)
    schema = _schema_of_plain(annotation)
    for field in fields:
        schema |= field.keywords()
    return schema


def object_schema(members: "dict[str, tuple[Any, Any]]") -> dict[str, Any]:
    """The schema of an object with the given members: type, and default or ``dataclasses.MISSING``."""
    properties = {}
    for name, (annotation, default) in members.items():
        properties[name] = schema_of(annotation)
        if default is not dataclasses.MISSING and default is not None:
            properties[name]["default"] = to_json(default)
    required = [name for name, (_, default) in members.items() if default is dataclasses.MISSING]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def members_of(kind: type) -> "dict[str, tuple[Any, Any]]":
    """The members of a dataclass, as ``object_schema`` takes them."""
    hints = typing.get_type_hints(kind, include_extras=True)
    members = {}
    for field in dataclasses.fields(kind):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        members[field.name] = (hints[field.name], default)
    return members


def from_json(annotation: Any, value: Any, where: str = "input") -> Any:
    """A JSON value as the annotated type.

    The host has checked it against the schema already; what does not fit here is a PluginFailure ``invalid-input``.
    """
    annotation, _ = _without_annotated(annotation)
    if annotation is Any:
        return value
    if annotation in _SCALARS:
        return _scalar(annotation, value, where)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        _require(value in arguments, where, "one of " + ", ".join(map(str, arguments)))
        return value
    if origin in (typing.Union, types.UnionType):
        return _first_fitting(arguments, value, where)
    if origin is list:
        _require(isinstance(value, list), where, "a list")
        return [from_json(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is dict:
        _require(isinstance(value, dict), where, "an object")
        return {name: from_json(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        _require(value in [member.value for member in annotation], where, "one of the known values")
        return annotation(value)
    return annotation(**members_from_json(members_of(annotation), value, where))


def members_from_json(members: "dict[str, tuple[Any, Any]]", value: Any, where: str = "input") -> dict[str, Any]:
    """The members of a JSON object that were given, each as its type."""
    _require(isinstance(value, dict), where, "an object")
    for name in value:
        _require(name in members, f"{where}.{name}", "absent: it is not known")
    for name, (_, default) in members.items():
        _require(name in value or default is not dataclasses.MISSING, f"{where}.{name}", "given")
    return {name: from_json(members[name][0], item, f"{where}.{name}") for name, item in value.items()}


def to_json(value: Any) -> Any:
    """A value made of what JSON holds, dataclasses and enums."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in value]
    return value


def _without_annotated(annotation: Any) -> tuple[Any, list[Field]]:
    if typing.get_origin(annotation) is not typing.Annotated:
        return annotation, []
    inner, *extras = typing.get_args(annotation)
    plain, fields = _without_annotated(inner)
    return plain, fields + [extra for extra in extras if isinstance(extra, Field)]


def _schema_of_plain(annotation: Any) -> dict[str, Any]:
    if annotation is Any:
        return {}
    if annotation is None or annotation in _SCALARS:
        return {"type": _SCALARS[type(None) if annotation is None else annotation]}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(argument) for argument in arguments]}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict and arguments[0] is str:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return {"enum": [member.value for member in annotation]}
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return object_schema(members_of(annotation))
    raise TypeError(f"There is no JSON Schema for {annotation!r}. Use one of the types that leanclaw_plugin.schema lists.")


def _scalar(annotation: Any, value: Any, where: str) -> Any:
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation is int and isinstance(value, float) and value.is_integer():
        return int(value)
    fits = isinstance(value, annotation) and (annotation is bool or not isinstance(value, bool))
    _require(fits, where, f"of type {_SCALARS[annotation]}")
    return value


def _first_fitting(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    arguments = tuple(argument for argument in arguments if argument is not type(None))
    if len(arguments) == 1:
        return from_json(arguments[0], value, where)
    for argument in arguments:
        try:
            return from_json(argument, value, where)
        except PluginFailure:
            continue
    raise PluginFailure("invalid-input", f"{where} has none of the types it may have.")


def _require(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise PluginFailure("invalid-input", f"{where} must be {what}.")
