"""The shapes of messages, between the host's records and these classes."""

import json
from dataclasses import dataclass, field
from typing import Any

from .blobs import lower_file
from .handlers import dumps


@dataclass
class Place:
    """Where a message is: ``kind`` is direct, group or broadcast."""

    id: str
    kind: str = "direct"
    thread: str | None = None
    title: str | None = None
    extra: Any = None


@dataclass
class Person:
    """Who wrote a message."""

    id: str
    display_name: str | None = None
    bot: bool = False
    extra: Any = None


@dataclass
class Part:
    """``kind`` is text, markdown, image, audio, video, file, location, ...; ``blob`` a File or a host blob."""

    kind: str
    text: str | None = None
    blob: Any = None
    extra: Any = None


@dataclass
class Outbound:
    """A message to send; delivering one ``idempotency_key`` twice sends one message."""

    place: Place
    parts: list[Part]
    reply_to: str | None
    idempotency_key: str
    extra: Any

    @property
    def text(self) -> str:
        """The text of all its parts, one per line."""
        return "\n".join(part.text for part in self.parts if part.text)


@dataclass
class Inbound:
    """A message that a person wrote; ``id`` is the channel's own, ``sent_at`` milliseconds since the Unix epoch."""

    id: str
    sender: Person
    place: Place
    parts: list[Part]
    sent_at: int
    reply_to: str | None = None
    extra: Any = field(default=None)


def lift_extra(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def lower_extra(value: Any) -> str | None:
    return None if value is None else dumps(value)


def lift_place(record: Any) -> Place:
    return Place(record.id, record.kind, record.thread, record.title, lift_extra(record.extra))


def lower_place(place: Place) -> Place:
    return Place(place.id, place.kind, place.thread, place.title, lower_extra(place.extra))


def lift_part(record: Any) -> Part:
    return Part(record.kind, record.text, record.blob, lift_extra(record.extra))


def lower_part(part: Part) -> Part:
    blob = None if part.blob is None else lower_file(part.blob)
    return Part(part.kind, part.text, blob, lower_extra(part.extra))


def lift_outbound(record: Any) -> Outbound:
    parts = [lift_part(part) for part in record.parts]
    return Outbound(lift_place(record.place), parts, record.reply_to, record.idempotency_key, lift_extra(record.extra))


def lower_inbound(message: Inbound) -> Inbound:
    sender = message.sender
    return Inbound(
        message.id,
        Person(sender.id, sender.display_name, sender.bot, lower_extra(sender.extra)),
        lower_place(message.place),
        [lower_part(part) for part in message.parts],
        message.sent_at,
        message.reply_to,
        lower_extra(message.extra),
    )
