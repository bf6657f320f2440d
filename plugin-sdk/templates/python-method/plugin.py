from dataclasses import dataclass
from typing import Annotated

from leanclaw_plugin import Field, PluginFailure
from leanclaw_plugin.methods import method, methods


@dataclass
class Greeting:
    greeting: str


# A client calls it as `{{id}}.greet`. The schemas come from the types, and the host checks all parameters and every
# result against them.
@method(scope="operator.read")
def greet(name: Annotated[str, Field(description="Whom to greet", max_length=100)]) -> Greeting:
    """Greets a person by name."""
    if not name.strip():
        raise PluginFailure("invalid-input", "The name is empty.")
    return Greeting(f"Hello, {name.strip()}!")


Method = methods(greet)
