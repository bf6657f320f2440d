//! What both sides sign: `<direction>.<timestamp>.<body>` with the secret `signing-key`, which never leaves the host.

use leanclaw_plugin_sdk::{Failure, credentials};

/// The name of the secret in the manifest.
const KEY: &str = "signing-key";
const SCHEME: &str = "sha256=";

/// Header with the time of a request, in seconds since the Unix epoch.
pub(crate) const TIMESTAMP_HEADER: &str = "x-leanclaw-timestamp";
/// Header with the signature of a request.
pub(crate) const SIGNATURE_HEADER: &str = "x-leanclaw-signature";

/// Which way a message goes. It is signed too, so that a message that was sent cannot be handed back as one that came in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    In,
    Out,
}

/// The value of [`SIGNATURE_HEADER`].
pub(crate) fn sign(direction: Direction, timestamp: &str, body: &[u8]) -> Result<String, Failure> {
    let tag = credentials::hmac_sha256(KEY, &signed(direction, timestamp, body))?;
    Ok(tag.iter().fold(SCHEME.to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

/// Whether `signature` is the value of [`SIGNATURE_HEADER`] for this request.
pub(crate) fn verify(direction: Direction, timestamp: &str, body: &[u8], signature: &str) -> Result<bool, Failure> {
    match signature.strip_prefix(SCHEME).and_then(from_hex) {
        Some(tag) => credentials::verify_hmac_sha256(KEY, &signed(direction, timestamp, body), &tag),
        None => Ok(false),
    }
}

fn signed(direction: Direction, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let direction = match direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    [direction.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    digits?.chunks(2).map(|pair| if let [high, low] = pair { Some(high << 4 | low) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use leanclaw_plugin_sdk::testing::TestHost;

    use super::*;

    #[test]
    fn a_signature_holds_for_one_direction_time_and_body() {
        let host = TestHost::new();
        host.set_secret(KEY, "key");
        let signature = sign(Direction::In, "100", b"body").unwrap();
        // printf 'in.100.body' | openssl dgst -sha256 -hmac key
        assert_eq!(signature, "sha256=88484f40ac58b1c009c09adee213b77613a263ca877a035c088bf179b7c1f2d7");
        assert!(verify(Direction::In, "100", b"body", &signature).unwrap());
        assert!(verify(Direction::In, "100", b"body", &signature.to_uppercase().replace("SHA", "sha")).unwrap());
        for (direction, timestamp, body, signature) in [
            (Direction::Out, "100", "body", signature.as_str()),
            (Direction::In, "101", "body", &signature),
            (Direction::In, "100", "body2", &signature),
            (Direction::In, "100", "body", "sha256="),
            (Direction::In, "100", "body", "sha256=zz"),
            (Direction::In, "100", "body", "sha256=abc"),
            (Direction::In, "100", "body", signature.trim_start_matches(SCHEME)),
        ] {
            assert!(!verify(direction, timestamp, body.as_bytes(), signature).unwrap(), "{direction:?} {timestamp}");
        }
    }
}
