//! Between this crate's types and those of the contract.

use crate::bindings::raw;
use crate::blob::{Blob, Content};
use crate::failure::Failure;
use crate::headers::Headers;
use crate::host::blob_from_raw;
use crate::json::read_extra;
use crate::message::{Inbound, Outbound, Part, Person, Place, Receipt};

impl From<raw::types::Failure> for Failure {
    fn from(raw: raw::types::Failure) -> Self {
        Self {
            code: raw.code,
            message: raw.message,
            retryable: raw.retryable,
            retry_after_ms: raw.retry_after_ms,
            // What explains a failure must not hide it.
            extra: read_extra(raw.extra).unwrap_or_default(),
        }
    }
}

impl From<Failure> for raw::types::Failure {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.code,
            message: failure.message,
            retryable: failure.retryable,
            retry_after_ms: failure.retry_after_ms,
            extra: failure.extra.map(|extra| extra.to_string()),
        }
    }
}

pub(crate) fn headers_to_raw(headers: &Headers) -> Vec<raw::types::Header> {
    headers.iter().map(|(name, value)| raw::types::Header { name: name.to_owned(), value: value.to_vec() }).collect()
}

pub(crate) fn headers_from_raw(headers: Vec<raw::types::Header>) -> Headers {
    headers.into_iter().map(|header| (header.name, header.value)).collect()
}

/// Gives the host its own blob back, or a copy of bytes in memory.
pub(crate) fn blob_to_raw(blob: Blob) -> Result<raw::blobs::Blob, Failure> {
    const PIECE_BYTES: u32 = 256 * 1024;
    let media_type = blob.media_type().to_owned();
    let mut blob = match blob.content {
        Content::Remote(source) => match source.into_raw() {
            Some(raw) => return Ok(raw),
            None => return Err(Failure::unsupported("Read a response of wasi:http before passing it on.")),
        },
        Content::Memory { .. } => blob,
    };
    let writer = raw::blobs::Writer::new(&media_type);
    while let Some(piece) = blob.read(PIECE_BYTES)? {
        writer.write(&piece)?;
    }
    Ok(raw::blobs::Writer::finish(writer)?)
}

fn part_to_raw(part: Part) -> Result<raw::messages::Part, Failure> {
    Ok(raw::messages::Part {
        kind: part.kind,
        text: part.text,
        blob: part.blob.map(blob_to_raw).transpose()?,
        extra: part.extra.map(|extra| extra.to_string()),
    })
}

fn part_from_raw(part: raw::messages::Part) -> Result<Part, Failure> {
    Ok(Part { kind: part.kind, text: part.text, blob: part.blob.map(blob_from_raw), extra: read_extra(part.extra)? })
}

fn place_to_raw(place: Place) -> raw::messages::Place {
    raw::messages::Place {
        id: place.id,
        kind: place.kind,
        thread: place.thread,
        title: place.title,
        extra: place.extra.map(|extra| extra.to_string()),
    }
}

pub(crate) fn place_from_raw(place: raw::messages::Place) -> Result<Place, Failure> {
    Ok(Place {
        id: place.id,
        kind: place.kind,
        thread: place.thread,
        title: place.title,
        extra: read_extra(place.extra)?,
    })
}

fn person_to_raw(person: Person) -> raw::messages::Person {
    raw::messages::Person {
        id: person.id,
        display_name: person.display_name,
        bot: person.bot,
        extra: person.extra.map(|extra| extra.to_string()),
    }
}

pub(crate) fn inbound_to_raw(message: Inbound) -> Result<raw::messages::Inbound, Failure> {
    Ok(raw::messages::Inbound {
        id: message.id,
        sender: person_to_raw(message.sender),
        place: place_to_raw(message.place),
        parts: message.parts.into_iter().map(part_to_raw).collect::<Result<_, _>>()?,
        reply_to: message.reply_to,
        sent_at: message.sent_at_ms,
        extra: message.extra.map(|extra| extra.to_string()),
    })
}

pub(crate) fn outbound_from_raw(message: raw::messages::Outbound) -> Result<Outbound, Failure> {
    Ok(Outbound {
        place: place_from_raw(message.place)?,
        parts: message.parts.into_iter().map(part_from_raw).collect::<Result<_, _>>()?,
        reply_to: message.reply_to,
        idempotency_key: message.idempotency_key,
        extra: read_extra(message.extra)?,
    })
}

pub(crate) fn receipt_to_raw(receipt: Receipt) -> raw::messages::Receipt {
    raw::messages::Receipt { message_id: receipt.message_id, extra: receipt.extra.map(|extra| extra.to_string()) }
}
