"""Gateway events. Needs ``events`` in the world and the event's name in the manifest's ``permissions.events``."""

from typing import Any

from . import _bridge
from .failure import failing
from .handlers import dumps
from .schema import to_json

_host = _bridge.host("events")


def emit(name: str, payload: Any) -> None:
    """``name`` without the plugin's id; clients see ``<plugin id>.<name>``."""
    failing(_host.emit, name, dumps(to_json(payload)))
