"""Channels whose server the host polls: ``Poll = poll(following, received)``. The plugin never waits itself.

Driven with the permission ``poll``; the requests need ``permissions.http``.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ._bridge import Err
from .failure import PluginFailure, answering, lifted
from .headers import HeaderRecord, Headers


@dataclass
class PollRequest:
    """What to ask; text is written as UTF-8. Secrets are placeholders, as in ``http``."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | str = b""
    timeout_ms: int = 60_000


@dataclass
class PollStep:
    """What to do next. Without a request: nothing to ask for ``wait_ms``; with one, that is the pause after it."""

    request: PollRequest | None = None
    wait_ms: int = 0


@dataclass(frozen=True)
class PollResponse:
    """What was answered."""

    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8, without a byte order mark; bytes that are not UTF-8 are replaced."""
        return self.body.decode(errors="replace").removeprefix("\ufeff")

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class RequestRecord:
    """A request as the host reads it."""

    method: str
    url: str
    headers: list[HeaderRecord]
    body: bytes
    timeout_ms: int


@dataclass
class StepRecord:
    """A step as the host reads it."""

    request: RequestRecord | None
    wait_ms: int


def poll(following: Callable[[], PollStep], received: Callable[[PollResponse | PluginFailure], None]) -> type:
    """The ``Poll`` export. ``received`` gets the answer to each request, or the failure that came instead."""

    class Poll:
        def next(self) -> StepRecord:
            def work() -> StepRecord:
                step = following()
                request = step.request
                if request is None:
                    return StepRecord(None, step.wait_ms)
                body = request.body.encode() if isinstance(request.body, str) else request.body
                headers = Headers(request.headers).records()
                return StepRecord(RequestRecord(request.method, request.url, headers, body, request.timeout_ms), step.wait_ms)

            return answering(work)

        def received(self, response: Any) -> None:
            def work() -> None:
                value = response.value
                if isinstance(response, Err):
                    return received(lifted(value))
                return received(PollResponse(value.status, Headers.from_records(value.headers), bytes(value.body)))

            answering(work)

    return Poll
