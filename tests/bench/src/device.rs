//! A client's key, and the proof of it that goes into `connect`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

/// What the clients here say they are.
pub const CLIENT: [(&str, &str); 4] = [("id", "cli"), ("version", "1.0.0"), ("platform", "linux"), ("mode", "cli")];
/// What they ask for.
pub const SCOPES: [&str; 3] = ["operator.admin", "operator.read", "operator.write"];

/// A device identity: an Ed25519 key.
pub struct Device {
    pair: Ed25519KeyPair,
    id: String,
    public_key: String,
}

impl Device {
    /// The device of a number, always the same one.
    ///
    /// # Errors
    /// Never, unless the key is refused.
    pub fn numbered(number: u8) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[number; 32]).ok().context("no key of this seed")?;
        let key = pair.public_key().as_ref();
        let id = digest(&SHA256, key).as_ref().iter().fold(String::new(), |mut id, byte| {
            // Writing to a string cannot fail.
            let _ = write!(id, "{byte:02x}");
            id
        });
        let public_key = URL_SAFE_NO_PAD.encode(key);
        Ok(Self { pair, id, public_key })
    }

    /// `connect`'s `device`: a signature over the gateway's nonce and everything else that counts.
    #[must_use]
    pub fn proof(&self, token: &str, nonce: &str) -> Value {
        let [(_, client), _, (_, platform), (_, mode)] = CLIENT;
        let scopes = SCOPES.join(",");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let signed_at = u64::try_from(now.as_millis()).unwrap_or_default();
        let id = &self.id;
        let text = format!("v3|{id}|{client}|{mode}|operator|{scopes}|{signed_at}|{token}|{nonce}|{platform}|");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(text.as_bytes()));
        json!({"id": id, "publicKey": self.public_key, "signature": signature, "signedAt": signed_at, "nonce": nonce})
    }
}
