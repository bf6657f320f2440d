"""Runs a plugin natively, without a component, for unit tests.

    from leanclaw_plugin.testing import TestHost
    import plugin

    host = TestHost(settings={"limit": 3})
    answer = host.call_tool(plugin.Skill, "add", {"a": 1, "b": 2})
    assert answer.structured == 3

The host keeps what the plugin did: ``log``, ``events``, ``inbox``, ``requests``, ``progress``, ``kv``. It grants everything;
what a real host refuses is not its concern.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ._bridge import Err


class TestFailure(Exception):
    """Raised by a test's ``http`` function to have the request fail with a code."""

    __test__ = False

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.record = _failure(code, message, retryable)


@dataclass
class TestResponse:
    """What a test's ``http`` function answers."""

    __test__ = False

    status: int = 200
    body: bytes | str = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """A request that the plugin made."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    timeout_ms: int | None


@dataclass
class ToolAnswer:
    """What a tool answered: ``structured`` parsed, ``files`` as (media type, bytes)."""

    text: str | None
    structured: Any
    files: list[tuple[str, bytes]]
    is_error: bool


class _Blob:
    def __init__(self, media_type: str, data: bytes) -> None:
        self._media_type, self.data, self._at = media_type, data, 0

    def media_type(self) -> str:
        return self._media_type

    def size(self) -> int:
        return len(self.data)

    def read(self, most: int) -> bytes | None:
        part = self.data[self._at : self._at + most]
        self._at += len(part)
        return part or None

    def __enter__(self) -> "_Blob":
        return self

    def __exit__(self, *_: Any) -> None:
        return None


class _Writer:
    def __init__(self, media_type: str) -> None:
        self._media_type, self._data = media_type, b""

    def write(self, chunk: bytes) -> None:
        self._data += chunk

    @classmethod
    def finish(cls, this: "_Writer") -> _Blob:
        return _Blob(this._media_type, this._data)


class _Context(SimpleNamespace):
    def __enter__(self) -> "_Context":
        return self

    def __exit__(self, *_: Any) -> None:
        self.__dict__.clear()


class TestHost:
    """One plugin's host, in memory."""

    __test__ = False

    def __init__(
        self,
        *,
        settings: Any = None,
        secrets: dict[str, bytes] | None = None,
        http: Callable[[Request], TestResponse] | None = None,
        caller: dict[str, Any] | None = None,
        remaining_ms: int = 30_000,
        cancelled: bool = False,
    ) -> None:
        self.settings = {} if settings is None else settings
        self.secrets = secrets or {}
        self.http = http
        self.caller = caller or {}
        self.remaining_ms = remaining_ms
        self.cancelled = cancelled
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.events: list[tuple[str, Any]] = []
        self.inbox: list[Any] = []
        self.requests: list[Request] = []
        self.progress: list[tuple[int, int | None, str | None]] = []
        self.emitted_text = ""
        self.kv: dict[str, tuple[bytes, int]] = {}
        self._revisions = 0

    def call_tool(self, skill: type, name: str, arguments: Any) -> ToolAnswer:
        """Calls a tool of a ``Skill`` class; failures are raised as PluginFailure."""
        output = self._call(lambda: skill().invoke(self.context(), name, json.dumps(arguments)))
        structured = None if output.structured is None else json.loads(output.structured)
        return ToolAnswer(output.text, structured, [(blob.media_type(), blob.data) for blob in output.files], output.is_error)

    def call_method(self, method: type, name: str, parameters: Any) -> Any:
        """Calls a method of a ``Method`` class."""
        return json.loads(self._call(lambda: method().invoke(self.context(), name, json.dumps(parameters))))

    def call_hook(self, hook: type, event: str, payload: Any) -> Any:
        """Calls a ``Hook`` class; answers the decision with its payload parsed."""
        decision = self._call(lambda: hook().handle(self.context(), event, json.dumps(payload)))
        if decision.payload is not None:
            decision.payload = json.loads(decision.payload)
        return decision

    def deliver(self, channel: type, text: str, *, place: str = "test", idempotency_key: str = "test-key") -> Any:
        """Has a ``Channel`` class send a text; answers its receipt."""
        where = SimpleNamespace(id=place, kind="direct", thread=None, title=None, extra=None)
        part = SimpleNamespace(kind="text", text=text, blob=None, extra=None)
        message = SimpleNamespace(place=where, parts=[part], reply_to=None, idempotency_key=idempotency_key, extra=None)
        return self._call(lambda: channel().deliver(message))

    def webhook(
        self, webhook: type, *, method: str = "POST", path: str = "/", query: str = "", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Any:
        """Sends a request to a ``Webhook`` class; answers its reply."""
        records = [SimpleNamespace(name=name.lower(), value=value.encode()) for name, value in (headers or {}).items()]
        request = SimpleNamespace(method=method, path=path, query=query, headers=records, body=body, remote="192.0.2.1")
        return self._call(lambda: webhook().handle(request))

    def context(self) -> Any:
        """What a handler gets as its context."""

        def emit_text(delta: str) -> None:
            self.emitted_text += delta

        caller = {"kind": "agent", "id": "test", "role": "operator", "scopes": [], "session_key": None, "extra": None}
        return _Context(
            id=lambda: "test-call",
            caller=lambda: SimpleNamespace(**(caller | self.caller)),
            remaining_ms=lambda: self.remaining_ms,
            cancelled=lambda: self.cancelled,
            progress=lambda done, total, note: self.progress.append((done, total, note)),
            emit_text=emit_text,
        )

    def interface(self, name: str) -> Any:
        """The host's side of one interface."""
        return {
            "blobs": SimpleNamespace(Blob=_Blob, Writer=_Writer),
            "credentials": SimpleNamespace(
                exists=self.secrets.__contains__,
                hmac_sha256=self._hmac,
                verify_hmac_sha256=lambda secret, message, tag: hmac.compare_digest(self._hmac(secret, message), tag),
            ),
            "events": SimpleNamespace(emit=lambda name, payload: self.events.append((name, json.loads(payload)))),
            "http": SimpleNamespace(send=self._send),
            "inbox": SimpleNamespace(submit=self._submit),
            "kv": SimpleNamespace(get=self._get, put=self._put, delete=lambda key: self.kv.pop(key, None) is not None, keys=self._keys),
            "log": SimpleNamespace(write=lambda level, message, fields: self.log.append((level, message, dict(fields)))),
            "settings": SimpleNamespace(get=lambda: json.dumps(self.settings)),
        }[name]

    def _call(self, work: Callable[[], Any]) -> Any:
        from .failure import lifted

        global _current
        _current = self
        try:
            return work()
        except Err as error:
            raise lifted(error.value) from None

    def _hmac(self, secret: str, message: bytes) -> bytes:
        if secret not in self.secrets:
            raise Err(_failure("denied", f"The test host has no secret {secret}."))
        return hmac.new(self.secrets[secret], message, hashlib.sha256).digest()

    def _send(self, record: Any) -> Any:
        headers = {header.name: header.value.decode() for header in record.headers}
        body = None if record.body is None else record.body.data
        request = Request(record.method, record.url, headers, body, record.timeout_ms)
        self.requests.append(request)
        if self.http is None:
            raise Err(_failure("denied", f"The test host grants no request to {record.url}."))
        try:
            answer = self.http(request)
        except TestFailure as failure:
            raise Err(failure.record) from None
        content = answer.body.encode() if isinstance(answer.body, str) else answer.body
        given = [SimpleNamespace(name=name.lower(), value=value.encode()) for name, value in answer.headers.items()]
        return SimpleNamespace(status=answer.status, headers=given, body=_Blob("application/octet-stream", content))

    def _submit(self, message: Any) -> str:
        if any(known.id == message.id for known in self.inbox):
            return "duplicate"
        self.inbox.append(message)
        return "accepted"

    def _get(self, key: str) -> Any:
        if key not in self.kv:
            return None
        value, revision = self.kv[key]
        return SimpleNamespace(value=value, revision=revision)

    def _put(self, key: str, value: bytes, if_revision: int | None, _ttl_seconds: int | None) -> int:
        revision = self.kv.get(key, (b"", 0))[1]
        if if_revision is not None and if_revision != revision:
            raise Err(_failure("conflict", f"The revision of {key} is {revision}.", True))
        self._revisions += 1
        self.kv[key] = (value, self._revisions)
        return self._revisions

    def _keys(self, prefix: str, after: str | None, limit: int) -> list[str]:
        found = [key for key in sorted(self.kv) if key.startswith(prefix) and (after is None or key > after)]
        return found[:limit]


def _failure(code: str, message: str, retryable: bool = False) -> Any:
    return SimpleNamespace(code=code, message=message, retryable=retryable, retry_after_ms=None, extra=None)


_current = TestHost()


class _CurrentInterface:
    """Modules keep what they imported, so this looks the current host up at every use."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, member: str) -> Any:
        return getattr(_current.interface(self._name), member)


def current_interface(name: str) -> Any:
    """One interface of whichever host is current."""
    return _CurrentInterface(name)
