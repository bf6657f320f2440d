"""HTTP over the host's ``http`` interface. Needs ``http`` in the world, and the host in ``permissions.http``.

Secrets are written as placeholders: ``{{secret:NAME}}`` in a header, the query or the path, wherever the manifest declares
that secret for that host; the plugin never sees the value. Redirects are not followed, because the next host may not be
granted: read ``location`` and decide.
"""

import json as json_module
from dataclasses import dataclass
from typing import Any

from . import _bridge, blobs
from .failure import failing
from .headers import HeaderRecord, Headers

_host = _bridge.host("http")


@dataclass
class RequestRecord:
    """A request as the host reads it."""

    method: str
    url: str
    headers: list[HeaderRecord]
    body: Any
    timeout_ms: int | None


class Response:
    """An answer. Its body is read when it is first asked for."""

    def __init__(self, record: Any, url: str) -> None:
        self.status: int = record.status
        self.url = url
        self.headers = Headers.from_records(record.headers)
        self._body = record.body
        self._content: bytes | None = None

    @property
    def ok(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status <= 299

    @property
    def content(self) -> bytes:
        if self._content is None:
            self._content = blobs.read_all(self._body)
        return self._content

    @property
    def text(self) -> str:
        """The body as UTF-8, without a byte order mark; bytes that are not UTF-8 are replaced."""
        return self.content.decode("utf-8", errors="replace").removeprefix("\ufeff")

    def json(self) -> Any:
        return json_module.loads(self.text)


def fetch(
    url: str,
    *,
    method: str | None = None,
    headers: dict[str, str] | None = None,
    body: bytes | str | None = None,
    json: Any = None,
    timeout_ms: int | None = None,
) -> Response:
    """Sends a request. ``method`` defaults to GET, or to POST with a body; ``json`` is sent instead of ``body``.

    Raises a PluginFailure: ``denied`` where the host is not granted, ``unavailable``, ``timed-out``, ...
    """
    given = Headers(headers or {})
    if json is not None:
        body = json_module.dumps(json, ensure_ascii=False)
    if isinstance(body, str) and "content-type" not in given:
        given.add("content-type", "text/plain;charset=UTF-8" if json is None else "application/json")
    blob = None if body is None else blobs.create(given.get("content-type", "application/octet-stream"), body)
    verb = (method or ("GET" if body is None else "POST")).upper()
    return Response(failing(_host.send, RequestRecord(verb, url, given.records(), blob, timeout_ms)), url)
