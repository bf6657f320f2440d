"""Messaging channels: ``Channel = channel(...)``, ``Webhook = webhook(...)``, ``ChannelActions = channel_actions(...)``.

Export what the world names. ``poll`` and ``socket`` make the other ways in which messages come in.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .failure import PluginFailure, answering
from .handlers import dumps
from .headers import HeaderRecord, Headers
from .messages import Outbound, Place, lift_outbound, lift_place, lower_extra
from .schema import to_json


@dataclass
class DescriptorRecord:
    """A channel as the host lists it."""

    id: str
    title: str
    max_text_bytes: int
    abilities: list[str]
    extra: str | None


@dataclass
class Receipt:
    """What the channel says of a message it sent."""

    message_id: str | None = None
    extra: Any = None


def channel(
    id: str,
    title: str,
    deliver: Callable[[Outbound], "Receipt | str | None"],
    *,
    max_text_bytes: int = 4000,
    abilities: tuple[str, ...] = (),
    extra: Any = None,
) -> type:
    """The ``Channel`` export. ``deliver`` sends one message; a string is its id.

    It raises a PluginFailure with ``retryable`` to have the host try again.
    """

    class Channel:
        def describe(self) -> DescriptorRecord:
            return DescriptorRecord(id, title, max_text_bytes, list(abilities), lower_extra(extra))

        def deliver(self, message: Any) -> Receipt:
            def work() -> Receipt:
                receipt = deliver(lift_outbound(message))
                if not isinstance(receipt, Receipt):
                    receipt = Receipt(receipt)
                return Receipt(receipt.message_id, lower_extra(receipt.extra))

            return answering(work)

    return Channel


def channel_actions(actions: dict[str, Callable[[Place, Any], Any]]) -> type:
    """The ``ChannelActions`` export: what a channel can do besides sending, by the names in its ``abilities``.

    Each gets the place and its arguments, and returns anything that JSON can hold.
    """

    class ChannelActions:
        def perform(self, action: str, place: Any, arguments: str) -> str:
            def work() -> str:
                if action not in actions:
                    raise PluginFailure("unsupported", f"The channel cannot {action}.")
                return dumps(to_json(actions[action](lift_place(place), json.loads(arguments))))

            return answering(work)

    return ChannelActions


@dataclass(frozen=True)
class WebhookRequest:
    """A request to ``/plugins/<id>/hook/...``; ``query`` without the ``?``, ``remote`` is the peer's address."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    remote: str

    @property
    def text(self) -> str:
        """The body as UTF-8, without a byte order mark; bytes that are not UTF-8 are replaced."""
        return self.body.decode(errors="replace").removeprefix("\ufeff")

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class WebhookReply:
    """An answer; text is written as UTF-8."""

    status: int = 200
    body: bytes | str = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class ReplyRecord:
    """An answer as the host reads it."""

    status: int
    headers: list[HeaderRecord]
    body: bytes


def webhook(handler: Callable[[WebhookRequest], "WebhookReply | int | None"]) -> type:
    """The ``Webhook`` export. A number is a status; None is 204."""

    class Webhook:
        def handle(self, request: Any) -> ReplyRecord:
            def work() -> ReplyRecord:
                headers = Headers.from_records(request.headers)
                reply = handler(
                    WebhookRequest(request.method, request.path, request.query, headers, bytes(request.body), request.remote)
                )
                if not isinstance(reply, WebhookReply):
                    reply = WebhookReply(204 if reply is None else reply)
                body = reply.body.encode() if isinstance(reply.body, str) else reply.body
                return ReplyRecord(reply.status, Headers(reply.headers).records(), body)

            return answering(work)

    return Webhook
