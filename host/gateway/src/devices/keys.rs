//! The gateway's own secrets: its identity and the key that device tokens are made from. Both come from one stored
//! document, which is made at the first start.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use leanclaw_types::Failure;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::record::Token;
use crate::auth::device;
use crate::services::{RecordChange, Records};

const KIND: &str = "key";
const ID: &str = "identity";

/// The gateway's own secrets.
pub(crate) struct Keys {
    /// The raw public key of the gateway's identity.
    public: Vec<u8>,
    tokens: hmac::Key,
    node_tokens: hmac::Key,
    revisions: hmac::Key,
    random: SystemRandom,
}

impl Keys {
    /// Reads them, or makes them.
    ///
    /// # Errors
    /// The store cannot be used, or what it holds is no key.
    pub(crate) async fn open(records: &Arc<dyn Records>) -> Result<Self, Failure> {
        let random = SystemRandom::new();
        let stored = records.load(KIND)?.into_iter().find(|(id, _)| id == ID);
        let document = match stored {
            Some((_, body)) => decode(&body)?,
            None => {
                let made = Ed25519KeyPair::generate_pkcs8(&random);
                let made = made.map_err(|_| Failure::internal("the system gives no random numbers"))?;
                let body = Some(serde_json::Value::from(STANDARD.encode(made.as_ref())).to_string());
                records.change(vec![RecordChange { kind: KIND, id: ID.to_owned(), body }], Vec::new()).await?;
                made.as_ref().to_vec()
            }
        };
        let pair = Ed25519KeyPair::from_pkcs8(&document).map_err(|_| broken())?;
        let document = hmac::Key::new(hmac::HMAC_SHA256, &document);
        let key = |purpose: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&document, purpose).as_ref());
        let (tokens, node_tokens) = (key(b"device tokens"), key(b"node tokens"));
        let revisions = key(b"config revisions");
        Ok(Self { public: pair.public_key().as_ref().to_vec(), tokens, node_tokens, revisions, random })
    }

    /// The gateway's device id and public key, as clients know such.
    pub(crate) fn identity(&self) -> (String, String) {
        (device::id_of(&self.public), URL_SAFE_NO_PAD.encode(&self.public))
    }

    /// A device's token: 43 characters.
    pub(crate) fn token(&self, device: &str, token: &Token) -> String {
        let text = format!("{device}|{}|{}", token.role, token.salt);
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.tokens, text.as_bytes()))
    }

    /// The token of a node that is no device: 43 characters.
    pub(crate) fn node_token(&self, node: &str, salt: &str) -> String {
        // A salt has no bar in it, whatever the node's id has.
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.node_tokens, format!("{salt}|{node}").as_bytes()))
    }

    /// What a configuration text is called by: 43 characters.
    pub(crate) fn revision(&self, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.revisions, text.as_bytes()))
    }

    /// 128 random bits.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn salt(&self) -> Result<String, leanclaw_types::frame::ErrorShape> {
        let mut bytes = [0; 16];
        let filled = self.random.fill(&mut bytes);
        filled.map_err(|_| crate::error::unavailable("the system gives no random numbers"))?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }
}

fn decode(body: &str) -> Result<Vec<u8>, Failure> {
    let text: String = serde_json::from_str(body).map_err(|_| broken())?;
    STANDARD.decode(text).map_err(|_| broken())
}

fn broken() -> Failure {
    Failure::internal("the gateway's stored key cannot be read")
        .hint("restore core.db from a backup; without this key every paired device must be paired again")
}
