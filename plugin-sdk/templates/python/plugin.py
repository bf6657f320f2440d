from dataclasses import dataclass
from typing import Annotated

from leanclaw_plugin import Field, PluginFailure
from leanclaw_plugin.skill import skill, tool


@dataclass
class Greeting:
    greeting: str


# The name is unique among all loaded plugins; a model reads the docstring to choose the tool. The schemas come from the
# types, and the host checks every input and every answer against them.
@tool(name="{{id}}_greet", idempotent=True)
def greet(name: Annotated[str, Field(description="Whom to greet", max_length=100)]) -> Greeting:
    """Greets a person by name."""
    if not name.strip():
        raise PluginFailure("invalid-input", "The name is empty.")
    return Greeting(f"Hello, {name.strip()}!")


Skill = skill(greet)
