"""Tools for agents.

    @tool(idempotent=True)
    def add(a: float, b: float) -> float:
        '''Adds two numbers.'''
        return a + b

    Skill = skill(add)

The input's schema comes from the parameters, the output's from the return type.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .blobs import File, lower_file
from .context import Context
from .failure import PluginFailure, answering
from .handlers import Handler, by_name, dumps
from .schema import schema_of, to_json

_NAME = r"[A-Za-z0-9_-]{1,64}"


@dataclass
class ToolResult:
    """A whole answer: text, structured output and files together.

    ``is_error``: the tool ran and says it failed; a model may read why. Raise a PluginFailure when it could not run.
    """

    text: str | None = None
    structured: Any = None
    files: list[File] = field(default_factory=list)
    is_error: bool = False


@dataclass
class ToolRecord:
    """A tool as the host lists it."""

    name: str
    description: str
    input_schema: str
    output_schema: str | None
    effects: list[str]
    idempotent: bool
    extra: str | None


@dataclass
class OutputRecord:
    """An answer as the host reads it."""

    structured: str | None
    text: str | None
    files: list[Any]
    is_error: bool


class Tool(Handler):
    """A function made a tool. It can still be called as the function it was."""

    def __init__(self, function: Callable[..., Any], name: str | None, description: str | None, effects: list[str], idempotent: bool, output: Any, extra: Any) -> None:
        super().__init__("tool", _NAME, function, name, description)
        answered = self.returns if output is None else output
        no_schema = answered in (inspect.Signature.empty, str, ToolResult, Any, type(None))
        self.record = ToolRecord(
            self.name,
            self.description,
            dumps(self.input_schema),
            None if no_schema else dumps(schema_of(answered)),
            effects,
            idempotent,
            None if extra is None else dumps(extra),
        )

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)

    def answer(self, context: Context, text: str) -> OutputRecord:
        result = self.call(context, text)
        if isinstance(result, str):
            result = ToolResult(text=result)
        elif not isinstance(result, ToolResult):
            result = ToolResult(structured=result)
        structured = None if result.structured is None else dumps(to_json(result.structured))
        return OutputRecord(structured, result.text, [lower_file(file) for file in result.files], result.is_error)


def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effects: tuple[str, ...] = (),
    idempotent: bool = False,
    output: Any = None,
    extra: Any = None,
) -> Callable[[Callable[..., Any]], Tool]:
    """Makes a function a tool.

    ``name``: 1 to 64 of a-z, A-Z, 0-9, ``_``, ``-``; default: the function's. ``description``: what a model reads to choose
    it; default: the docstring. ``effects``: reads, writes, network, spends-money, irreversible, ... ``idempotent``: calling
    it twice with one input is the same as once. ``output``: the type of the structured output, where the function returns a
    ToolResult; default: the return type.
    """
    return lambda function: Tool(function, name, description, list(effects), idempotent, output, extra)


def skill(*tools: Tool) -> type:
    """The ``Skill`` export: ``Skill = skill(one_tool, another_tool)``."""
    named = by_name("tool", tools)

    class Skill:
        def tools(self) -> list[ToolRecord]:
            return [tool.record for tool in named.values()]

        def invoke(self, context: Any, tool: str, input: str) -> OutputRecord:
            def work() -> OutputRecord:
                if tool not in named:
                    raise PluginFailure("not-found", f"This plugin has no tool {tool}.")
                return named[tool].answer(opened, input)

            with Context(context) as opened:
                return answering(work)

    return Skill
