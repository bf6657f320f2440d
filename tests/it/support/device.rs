//! A client that is known by its device: a key, and the proof of it that goes into `connect`.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Client, text};

pub(crate) struct Device {
    pair: Ed25519KeyPair,
    /// What it is: client id, mode and role.
    client: (&'static str, &'static str, &'static str),
}

impl Device {
    /// The device of a number, always the same one.
    pub(crate) fn numbered(number: u8, client: (&'static str, &'static str, &'static str)) -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[number; 32]).expect("any seed is a key"), client }
    }

    pub(crate) fn id(&self) -> String {
        Sha256::digest(self.pair.public_key().as_ref()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The handshake from `elsewhere`, which a proxy in between reports, or else from this machine: `hello-ok`, or the error.
    /// `connect` is what it says beside who it is; version 4 where it does not say which.
    pub(crate) async fn knock(
        &self,
        address: SocketAddr,
        elsewhere: Option<&str>,
        connect: Value,
    ) -> Result<Client, Value> {
        let headers: Vec<(&'static str, &str)> = elsewhere.map(|from| ("x-forwarded-for", from)).into_iter().collect();
        let mut client = Client::open_with(address, &headers).await.expect("the gateway takes WebSockets");
        let challenge = client.event("connect.challenge").await;
        client.hello = client.call("connect", self.params(&challenge, connect)).await?;
        Ok(client)
    }

    fn params(&self, challenge: &Value, connect: Value) -> Value {
        let (nonce, at, id) = (text(&challenge["nonce"]), &challenge["ts"], self.id());
        let scopes: Vec<&str> = connect["scopes"].as_array().into_iter().flatten().map(text).collect();
        let token = ["token", "deviceToken"].iter().find_map(|name| connect["auth"][name].as_str()).unwrap_or_default();
        let ((client, mode, role), scopes) = (self.client, scopes.join(","));
        let payload = format!("v3|{id}|{client}|{mode}|{role}|{scopes}|{at}|{token}|{nonce}|linux|");
        let mut params = json!({
            "minProtocol": 4, "maxProtocol": 4, "role": role,
            "client": {"id": client, "version": "1", "platform": "linux", "mode": mode},
            "device": {"id": id, "publicKey": URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref()), "nonce": nonce,
                "signature": URL_SAFE_NO_PAD.encode(self.pair.sign(payload.as_bytes()).as_ref()), "signedAt": at},
        });
        params.as_object_mut().unwrap().extend(connect.as_object().expect("an object").clone());
        params
    }
}
