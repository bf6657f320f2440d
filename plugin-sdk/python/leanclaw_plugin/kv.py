"""The plugin's own key-value store. Needs ``kv`` in the world and in the manifest's permissions."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import _bridge
from .failure import PluginFailure, failing

_host = _bridge.host("kv")


@dataclass(frozen=True)
class Entry:
    """A value and the revision it was written as."""

    value: Any
    revision: int


def get(key: str) -> Entry | None:
    """The bytes under a key."""
    entry = failing(_host.get, key)
    return None if entry is None else Entry(bytes(entry.value), entry.revision)


def get_json(key: str) -> Entry | None:
    entry = get(key)
    return None if entry is None else Entry(json.loads(entry.value), entry.revision)


def put(key: str, value: bytes | str, *, if_revision: int | None = None, ttl_seconds: int | None = None) -> int:
    """Writes a value and returns its revision.

    ``if_revision``: only over this revision; 0: only if the key is absent; else a PluginFailure ``conflict``.
    """
    return failing(_host.put, key, value.encode() if isinstance(value, str) else value, if_revision, ttl_seconds)


def put_json(key: str, value: Any, *, if_revision: int | None = None, ttl_seconds: int | None = None) -> int:
    return put(key, json.dumps(value, ensure_ascii=False), if_revision=if_revision, ttl_seconds=ttl_seconds)


def delete(key: str) -> bool:
    """Whether there was something to delete."""
    return failing(_host.delete, key)


def keys(prefix: str = "", *, after: str | None = None, limit: int = 100) -> list[str]:
    """Keys in order, one page at a time; ``after`` is the last key of the page before."""
    return failing(_host.keys, prefix, after, limit)


def update_json(key: str, change: Callable[[Any], Any], *, ttl_seconds: int | None = None, attempts: int = 10) -> Any:
    """Changes a JSON value safely while others may write it too, and returns what was written.

    ``change`` gets the value, or None when the key is absent; it may run several times.
    """
    for attempt in range(1, attempts + 1):
        entry = get_json(key)
        value = change(None if entry is None else entry.value)
        try:
            put_json(key, value, if_revision=0 if entry is None else entry.revision, ttl_seconds=ttl_seconds)
            return value
        except PluginFailure as failure:
            if failure.code != "conflict" or attempt == attempts:
                raise
    raise ValueError("attempts must be at least 1")
