"""Gateway methods; a client calls them as ``<plugin id>.<name>``.

    @method(scope="operator.write")
    def add(text: str) -> int:
        '''Adds a note and returns its number.'''

    Method = methods(add)
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .context import Context
from .failure import PluginFailure, answering
from .handlers import Handler, by_name, dumps
from .schema import schema_of, to_json

_NAME = r"[A-Za-z0-9_.-]{1,64}"


@dataclass
class MethodRecord:
    """A method as the host lists it."""

    name: str
    description: str
    scope: str
    params_schema: str
    result_schema: str
    extra: str | None


class MethodHandler(Handler):
    """A function made a method. It can still be called as the function it was."""

    def __init__(self, function: Callable[..., Any], name: str | None, description: str | None, scope: str, extra: Any) -> None:
        super().__init__("method", _NAME, function, name, description)
        result = {} if self.returns is inspect.Signature.empty else schema_of(self.returns)
        self.record = MethodRecord(
            self.name, self.description, scope, dumps(self.input_schema), dumps(result), None if extra is None else dumps(extra)
        )

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)


def method(
    *, name: str | None = None, description: str | None = None, scope: str = "operator.read", extra: Any = None
) -> Callable[[Callable[..., Any]], MethodHandler]:
    """Makes a function a gateway method.

    ``name``: 1 to 64 of a-z, A-Z, 0-9, ``_``, ``-``, ``.``, without the plugin's id. ``scope``: what a caller needs, such as
    operator.read, operator.write, operator.admin.
    """
    return lambda function: MethodHandler(function, name, description, scope, extra)


def methods(*handlers: MethodHandler) -> type:
    """The ``Method`` export: ``Method = methods(one, another)``."""
    named = by_name("method", handlers)

    class Method:
        def methods(self) -> list[MethodRecord]:
            return [handler.record for handler in named.values()]

        def invoke(self, context: Any, name: str, params: str) -> str:
            def work() -> str:
                if name not in named:
                    raise PluginFailure("not-found", f"This plugin has no method {name}.")
                return dumps(to_json(named[name].call(opened, params)))

            with Context(context) as opened:
                return answering(work)

    return Method
