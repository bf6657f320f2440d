"""Reads a handler's signature: what the tools and the methods have in common."""

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Callable
from typing import Any

from .context import Context
from .schema import members_from_json, object_schema


class Handler:
    """A function with typed parameters, called with a JSON object. A parameter annotated ``Context`` gets the context."""

    def __init__(self, what: str, pattern: str, function: Callable[..., Any], name: str | None, description: str | None) -> None:
        self.function = function
        self.name = name or function.__name__
        if not re.fullmatch(pattern, self.name):
            raise TypeError(f"A {what} needs a name that matches {pattern}; got {self.name!r}.")
        self.description = (description or inspect.getdoc(function) or "").strip()
        if not self.description:
            raise TypeError(f"The {what} {self.name} needs a description or a docstring.")
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"The {what} {self.name} is async. Handlers run synchronously: drop `async` and `await`.")
        hints = typing.get_type_hints(function, include_extras=True)
        self.returns = hints.get("return", inspect.Signature.empty)
        self._members: dict[str, tuple[Any, Any]] = {}
        self._context_names: list[str] = []
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"The {what} {self.name} has a parameter {parameter} that JSON cannot name.")
            if parameter.name not in hints:
                raise TypeError(f"The parameter {parameter.name} of the {what} {self.name} needs a type.")
            if hints[parameter.name] is Context:
                self._context_names.append(parameter.name)
                continue
            default = dataclasses.MISSING if parameter.default is parameter.empty else parameter.default
            self._members[parameter.name] = (hints[parameter.name], default)
        self.input_schema = object_schema(self._members)

    def call(self, context: Context, text: str) -> Any:
        """Calls the function with the JSON object ``text``."""
        arguments = members_from_json(self._members, json.loads(text))
        arguments.update((name, context) for name in self._context_names)
        return self.function(**arguments)


def by_name(what: str, handlers: "tuple[Any, ...]") -> dict[str, Any]:
    """Handlers by their names, which must differ."""
    named: dict[str, Any] = {}
    for handler in handlers:
        if handler.name in named:
            raise TypeError(f"Two {what}s are called {handler.name}.")
        named[handler.name] = handler
    return named


def dumps(value: Any) -> str:
    """JSON text as the host reads it; NaN and infinity are refused, because JSON has none."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
