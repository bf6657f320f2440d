"""What a handler knows of the call it serves."""

import json
from dataclasses import dataclass
from typing import Any

from .failure import PluginFailure, failing


@dataclass(frozen=True)
class Caller:
    """Who is behind a call, stamped by the host. ``kind``: client, agent, sender, schedule, plugin, host."""

    kind: str
    id: str
    role: str
    scopes: list[str]
    session_key: str | None
    extra: Any


class _Ended:
    """In the place of a released handle, whose use would abort the whole instance."""

    def __getattr__(self, _name: str) -> Any:
        raise RuntimeError("This context is of a call that has ended: use it only until the handler returns.")


class Context:
    """The call being served. Use it only until the handler returns."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, *_: Any) -> None:
        """Releases the host's handle; the kit does this when the handler returns."""
        handle, self._handle = self._handle, _Ended()
        with handle:
            pass

    @property
    def id(self) -> str:
        """The call's id, as it stands in the host's log."""
        return self._handle.id()

    @property
    def caller(self) -> Caller:
        caller = self._handle.caller()
        extra = None if caller.extra is None else json.loads(caller.extra)
        return Caller(caller.kind, caller.id, caller.role, list(caller.scopes), caller.session_key, extra)

    @property
    def remaining_ms(self) -> int:
        """Milliseconds until the host ends the call."""
        return self._handle.remaining_ms()

    @property
    def cancelled(self) -> bool:
        """Whether the caller took the call back."""
        return self._handle.cancelled()

    def raise_if_cancelled(self) -> None:
        """Ends the call when the caller took it back. Long loops call it now and then."""
        if self.cancelled:
            raise PluginFailure("cancelled", "The call was cancelled.")

    def progress(self, done: int, total: int | None = None, note: str | None = None) -> None:
        """Tells the caller how far the work is; ``total`` in the unit of ``done``."""
        self._handle.progress(done, total, note)

    def emit_text(self, delta: str) -> None:
        """Streams a part of the answer to the caller."""
        failing(self._handle.emit_text, delta)
