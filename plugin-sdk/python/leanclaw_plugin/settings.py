"""The plugin's validated settings. Needs ``settings`` in the world; the manifest's ``configSchema`` says what they hold."""

import json
from typing import Any

from . import _bridge

_host = _bridge.host("settings")


def get() -> Any:
    """Call it in a handler, not at the top of a module: that code runs when the component is built."""
    return json.loads(_host.get())
