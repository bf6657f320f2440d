"""Channels behind a WebSocket that the host keeps open: ``Socket = socket(target, received)``. The plugin only reacts.

Driven with the permission ``sockets``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .failure import answering
from .headers import HeaderRecord, Headers


@dataclass
class Endpoint:
    """Where to connect, such as ``wss://example.com``. Secrets are placeholders, as in ``http``."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    protocols: list[str] = field(default_factory=list)


@dataclass
class Reaction:
    """What to send, text or bytes, and whether to be woken without a frame, for heartbeats, or to close."""

    send: list[str | bytes] = field(default_factory=list)
    wake_after_ms: int | None = None
    close: bool = False


@dataclass
class EndpointRecord:
    """An endpoint as the host reads it."""

    url: str
    headers: list[HeaderRecord]
    protocols: list[str]


@dataclass
class FrameRecord:
    """A frame as the host reads it."""

    kind: str
    data: bytes


@dataclass
class ReactionRecord:
    """A reaction as the host reads it."""

    send: list[FrameRecord]
    wake_after_ms: int | None
    close: bool


def socket(
    target: Callable[[], Endpoint],
    received: Callable[[str | bytes], Reaction | None],
    *,
    opened: Callable[[], Reaction | None] = lambda: None,
    woken: Callable[[], Reaction | None] = lambda: None,
    closed: Callable[[int, str], None] = lambda code, reason: None,
) -> type:
    """The ``Socket`` export. ``target`` is asked before every connection; the others may answer a Reaction.

    ``closed`` gets the code and the reason: 1006 when the connection broke. The host connects again, later each time.
    """

    class Socket:
        def target(self) -> EndpointRecord:
            def work() -> EndpointRecord:
                endpoint = target()
                return EndpointRecord(endpoint.url, Headers(endpoint.headers).records(), endpoint.protocols)

            return answering(work)

        def opened(self) -> ReactionRecord:
            return answering(lambda: _lowered(opened()))

        def received(self, frame: Any) -> ReactionRecord:
            data = bytes(frame.data)
            return answering(lambda: _lowered(received(data.decode() if frame.kind == "text" else data)))

        def woken(self) -> ReactionRecord:
            return answering(lambda: _lowered(woken()))

        def closed(self, code: int, reason: str) -> None:
            answering(lambda: closed(code, reason))

    return Socket


def _lowered(reaction: Reaction | None) -> ReactionRecord:
    reaction = reaction or Reaction()
    frames = [
        FrameRecord("text", data.encode()) if isinstance(data, str) else FrameRecord("binary", data) for data in reaction.send
    ]
    return ReactionRecord(frames, reaction.wake_after_ms, reaction.close)
