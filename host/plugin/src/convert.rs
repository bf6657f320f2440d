//! Messages and HTTP between the host's types and the generated ones.

use leanclaw_types::Failure;
use leanclaw_types::message::{Outbound, Part, Place, Receipt};
use leanclaw_types::plugin::{ToolFile, ToolOutput};
use serde_json::Value;
use wasmtime::Store;

use crate::bindings::exports::skill;
use crate::bindings::imports::{messages, types};
use crate::state::InstanceState;

pub(crate) fn place(place: Place) -> messages::Place {
    messages::Place {
        id: place.id,
        kind: place.kind,
        thread: place.thread,
        title: place.title,
        extra: place.extra.map(|extra| extra.to_string()),
    }
}

fn part(store: &mut Store<InstanceState>, part: Part) -> wasmtime::Result<Result<messages::Part, Failure>> {
    let blob = match part.blob {
        None => None,
        Some(blob) => match store.data_mut().park(blob.media_type, blob.data)? {
            Ok(blob) => Some(blob),
            Err(failure) => return Ok(Err(failure)),
        },
    };
    Ok(Ok(messages::Part { kind: part.kind, text: part.text, blob, extra: part.extra.map(|extra| extra.to_string()) }))
}

/// A message for the guest; its failure is `too-large`, when its files are more than the instance may hold.
pub(crate) fn outbound(
    store: &mut Store<InstanceState>,
    message: Outbound,
) -> wasmtime::Result<Result<messages::Outbound, Failure>> {
    let mut parts = Vec::with_capacity(message.parts.len());
    for piece in message.parts {
        match part(store, piece)? {
            Ok(part) => parts.push(part),
            Err(failure) => {
                for handle in parts.into_iter().filter_map(|part: messages::Part| part.blob) {
                    store.data_mut().take_blob(handle)?;
                }
                return Ok(Err(failure));
            }
        }
    }
    Ok(Ok(messages::Outbound {
        place: place(message.place),
        parts,
        reply_to: message.reply_to,
        idempotency_key: message.idempotency_key,
        extra: message.extra.map(|extra| extra.to_string()),
    }))
}

pub(crate) fn receipt(receipt: messages::Receipt) -> Receipt {
    Receipt { message_id: receipt.message_id, extra: lenient_json(receipt.extra) }
}

/// JSON a guest wrote into a field that has no schema: what does not parse is kept as text.
pub(crate) fn lenient_json(text: Option<String>) -> Option<Value> {
    text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Reads a tool's output, taking the bytes of its files out of the store.
pub(crate) fn tool_output(store: &mut Store<InstanceState>, output: skill::Output) -> wasmtime::Result<RawToolOutput> {
    let mut files = Vec::with_capacity(output.files.len());
    for handle in output.files {
        let blob = store.data_mut().take_blob(handle)?;
        files.push(ToolFile { media_type: blob.media_type, data: blob.data });
    }
    Ok(RawToolOutput {
        structured: output.structured,
        output: ToolOutput { structured: None, text: output.text, files, is_error: output.is_error },
    })
}

/// A tool's output whose structured part is still text.
pub(crate) struct RawToolOutput {
    pub(crate) structured: Option<String>,
    pub(crate) output: ToolOutput,
}

/// Header lists of the contract.
pub(crate) fn headers(map: &http::HeaderMap) -> Vec<types::Header> {
    map.iter()
        .map(|(name, value)| types::Header { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() })
        .collect()
}

/// A header map from what a guest wrote; the error names the header.
pub(crate) fn header_map(headers: &[types::Header]) -> Result<http::HeaderMap, String> {
    let mut map = http::HeaderMap::with_capacity(headers.len());
    for header in headers {
        let shown = || crate::logs::escape(crate::logs::cut(&header.name, 64));
        let name = http::HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| format!("`{}` is not a header name", shown()))?;
        let value = http::HeaderValue::from_bytes(&header.value)
            .map_err(|_| format!("the value of `{}` is not a header value", shown()))?;
        map.append(name, value);
    }
    Ok(map)
}
