//! What the fuzz targets in `tests/fuzz` call, and nobody else: the code that reads what strangers send, without a socket
//! around it. Each gives the promise that an input breaks.

mod decision;

use leanclaw_types::frame::{ConnectParams, DeviceProof, ProtocolVersion, RequestFrame};
use serde_json::{Value, json};
use tungstenite::Utf8Bytes;

use crate::auth::device;
use crate::handshake::{self, Outcome};
use crate::wire::{self, Id, Payload};

pub use decision::decision;

/// Longest close reason that fits a close frame, in bytes.
const REASON_BYTES: usize = 123;

fn closed_response(text: &str) -> Result<Value, String> {
    let frame: leanclaw_types::frame::ResponseFrame =
        serde_json::from_str(text).map_err(|error| format!("no closed response ({error}): {text}"))?;
    if frame.kind == "res" { Ok(Value::String(frame.id)) } else { Err(format!("no response: {text}")) }
}

/// A frame after the handshake: a good one is answered under its own id, a bad one under what stands for it.
///
/// # Errors
/// Which promise is broken.
pub fn frame(text: &str) -> Result<(), String> {
    let value: Option<Value> = serde_json::from_str(text).ok();
    if let Some(frame) = RequestFrame::read(text) {
        // Parameters nested deeper than any value may be are only refused where they are read.
        let Some(value) = value else { return Ok(()) };
        let sent = value.get("id").ok_or("a good frame without an id")?;
        let answer = wire::response(&Id::of(&frame), &Ok(Payload::Own("{}".into())));
        let answered = closed_response(answer.as_str())?;
        if answered != *sent {
            return Err(format!("{sent} was answered as {answered}"));
        }
        let params = frame.params_text();
        return serde_json::from_str::<Value>(params).map(drop).map_err(|error| format!("{params}: {error}"));
    }
    for version in [ProtocolVersion::V3, ProtocolVersion::V4] {
        let answer = crate::connection::bad_frame(version, text);
        let Some(answer) = answer else {
            if value.is_some() {
                return Err("JSON that is no frame gets no answer".to_owned());
            }
            continue;
        };
        serde_json::from_str::<Value>(answer.as_str()).map_err(|error| format!("{answer}: {error}"))?;
    }
    Ok(())
}

/// A first frame: whatever it is, the socket ends with a reason that fits a close frame.
///
/// # Errors
/// Which promise is broken.
pub fn first_frame(text: &str) -> Result<(), String> {
    match handshake::answer_starting(text) {
        Outcome::Welcome(..) => Err("let in while starting".to_owned()),
        Outcome::Goodbye(response, _, reason) => goodbye(response, &reason),
    }
}

fn goodbye(response: Option<Utf8Bytes>, reason: &Utf8Bytes) -> Result<(), String> {
    if reason.len() > REASON_BYTES {
        return Err(format!("a reason of {} bytes", reason.len()));
    }
    response.map_or(Ok(()), |response| closed_response(response.as_str()).map(drop))
}

/// The parameters of a `connect`.
///
/// # Errors
/// Which promise is broken.
pub fn connect_params(text: &str) -> Result<(), String> {
    let Ok(params) = serde_json::from_str::<Value>(text) else { return Ok(()) };
    first_frame(&json!({"type": "req", "id": "1", "method": "connect", "params": params}).to_string())
}

/// A device's proof beside the parameters of its `connect`, as JSON `[proof, params]`. Nobody can sign by chance.
///
/// # Errors
/// Which promise is broken.
pub fn device_payload(text: &str, nonce: &str, now_ms: u64) -> Result<(), String> {
    let Ok((proof, params)) = serde_json::from_str::<(DeviceProof, ConnectParams)>(text) else { return Ok(()) };
    let first = device::verify(&params, &proof, nonce, now_ms);
    if first != device::verify(&params, &proof, nonce, now_ms) {
        return Err("the same proof is judged twice in two ways".to_owned());
    }
    let Ok(identity) = first else { return Ok(()) };
    if device::verify(&params, &proof, &format!("{nonce}x"), now_ms).is_ok() {
        return Err(format!("{} is let in with another socket's nonce", identity.id));
    }
    let other = DeviceProof { signed_at: proof.signed_at ^ 1, ..proof };
    if device::verify(&params, &other, nonce, now_ms).is_ok() {
        return Err(format!("{} is let in with another time", identity.id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Every input that the fuzz targets begin with or that once broke something.
    pub(super) fn corpus(target: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(target);
        let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let texts: Vec<String> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
        assert!(texts.len() > 2, "{}", folder.display());
        texts
    }

    #[test]
    fn what_the_fuzzers_begin_with_breaks_nothing() {
        for text in corpus("frame") {
            frame(&text).unwrap();
            first_frame(&text).unwrap();
        }
        for text in corpus("connect_params") {
            connect_params(&text).unwrap();
        }
        let mut read = 0;
        for text in corpus("device_payload") {
            read += usize::from(serde_json::from_str::<(DeviceProof, ConnectParams)>(&text).is_ok());
            device_payload(&text, "285aa08c-6437-4302-ad63-9a9553f4099a", 1_795_362_452_016).unwrap();
        }
        assert!(read > 0, "some of it gets as far as the proof");
        for text in corpus("decision") {
            decision(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        }
    }
}
