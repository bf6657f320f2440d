"""Where the kit meets the host: the generated bindings in a component, the test host everywhere else."""

import importlib
from typing import Any

try:
    from componentize_py_types import Err
except ModuleNotFoundError:

    class Err(Exception):  # type: ignore[no-redef]
        """A failed call, natively."""

        def __init__(self, value: Any) -> None:
            super().__init__(value)
            self.value = value


def host(interface: str) -> Any:
    """The host's side of one interface, such as ``kv``. Call it at the top of a module: imports end with the build."""
    try:
        importlib.import_module("wit_world")
    except ModuleNotFoundError:
        from . import testing

        return testing.current_interface(interface)
    try:
        return importlib.import_module(f"wit_world.imports.{interface}")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The code uses {interface}, which the world does not import: add --import {interface}, or use a world that has it."
        ) from error
