"""Lines in the plugin's log. Needs ``log`` in the world; no permission. Written at once, also while the call hangs.

``print`` works too: what it writes becomes log lines of the source ``stdout``.
"""

import json
from typing import Any

from . import _bridge

_host = _bridge.host("log")


def write(level: str, message: str, **fields: Any) -> None:
    """One line; ``level`` is trace, debug, info, warn or error, ``fields`` are searchable values beside the message."""
    pairs = [(name, value if isinstance(value, str) else json.dumps(value, default=str)) for name, value in fields.items()]
    _host.write(level, message, pairs)


def debug(message: str, **fields: Any) -> None:
    write("debug", message, **fields)


def info(message: str, **fields: Any) -> None:
    write("info", message, **fields)


def warn(message: str, **fields: Any) -> None:
    write("warn", message, **fields)


def error(message: str, **fields: Any) -> None:
    write("error", message, **fields)
