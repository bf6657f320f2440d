//! A client's device identity: an Ed25519 key that signs every `connect`.
//!
//! What is signed names the socket's own nonce, the client, role and scopes it asks for, so a signature is good for one
//! connection and one wish. Whether a device that proved itself may enter is not decided here.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use leanclaw_types::frame::{ConnectAuth, ConnectParams, DeviceProof};
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::digest::sha256;

/// How far a signature's time may be from ours, in either direction.
const CLOCK_SKEW_MS: u64 = 120_000;
/// Bytes of a raw Ed25519 public key, which are also the last ones of its usual DER form.
const KEY_BYTES: usize = 32;
const DER_BYTES: usize = 44;

/// A device that proved to hold its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Lower-case hex SHA-256 of the raw key.
    pub(crate) id: String,
    /// The raw key, base64url without padding.
    pub(crate) public_key: String,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    IdMismatch,
    Stale,
    NonceMissing,
    NonceMismatch,
    Signature,
}

impl Flaw {
    /// The message, the detail code and the reason that clients know.
    pub(crate) fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::IdMismatch => ("device identity mismatch", "DEVICE_AUTH_DEVICE_ID_MISMATCH", "device-id-mismatch"),
            Self::Stale => ("device signature expired", "DEVICE_AUTH_SIGNATURE_EXPIRED", "device-signature-stale"),
            Self::NonceMissing => ("device nonce required", "DEVICE_AUTH_NONCE_REQUIRED", "device-nonce-missing"),
            Self::NonceMismatch => ("device nonce mismatch", "DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch"),
            Self::Signature => ("device signature invalid", "DEVICE_AUTH_SIGNATURE_INVALID", "device-signature"),
        }
    }
}

/// Checks a proof, in the order the real gateway checks.
///
/// # Errors
/// The first flaw.
pub(crate) fn verify(connect: &ConnectParams, proof: &DeviceProof, nonce: &str, now_ms: u64) -> Result<Identity, Flaw> {
    let key = raw_key(&proof.public_key).ok_or(Flaw::IdMismatch)?;
    let id = id_of(&key);
    if id != proof.id {
        return Err(Flaw::IdMismatch);
    }
    if now_ms.abs_diff(proof.signed_at) > CLOCK_SKEW_MS {
        return Err(Flaw::Stale);
    }
    match proof.nonce.trim() {
        "" => return Err(Flaw::NonceMissing),
        given if given != nonce => return Err(Flaw::NonceMismatch),
        _ => {}
    }
    let signature = decode(&proof.signature).ok_or(Flaw::Signature)?;
    let public = UnparsedPublicKey::new(&ED25519, key);
    let signed = |payload: String| public.verify(payload.as_bytes(), &signature).is_ok();
    if signed(payload_v3(connect, proof)) || signed(payload_v2(connect, proof)) {
        Ok(Identity { id, public_key: URL_SAFE_NO_PAD.encode(key) })
    } else {
        Err(Flaw::Signature)
    }
}

/// A device's id: lower-case hex SHA-256 of its raw key.
pub(crate) fn id_of(key: &[u8]) -> String {
    sha256(key)
}

fn payload_v2(connect: &ConnectParams, proof: &DeviceProof) -> String {
    format!("v2|{}", common(connect, proof))
}

pub(crate) fn payload_v3(connect: &ConnectParams, proof: &DeviceProof) -> String {
    let family = connect.client.device_family.as_deref().unwrap_or_default();
    format!("v3|{}|{}|{}", common(connect, proof), normalised(&connect.client.platform), normalised(family))
}

fn common(connect: &ConnectParams, proof: &DeviceProof) -> String {
    let role = connect.role.as_deref().unwrap_or("operator");
    let scopes = connect.scopes.join(",");
    let token = connect.auth.as_ref().and_then(signed_token).unwrap_or_default();
    let client = &connect.client;
    let DeviceProof { id, signed_at, nonce, .. } = proof;
    format!("{id}|{}|{}|{role}|{scopes}|{signed_at}|{token}|{}", client.id, client.mode, nonce.trim())
}

/// The credential that is part of what is signed; a password never is.
fn signed_token(auth: &ConnectAuth) -> Option<&str> {
    auth.token.as_deref().or(auth.device_token.as_deref()).or(auth.bootstrap_token.as_deref())
}

pub(crate) fn normalised(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

/// The raw key from base64url, or from PEM.
fn raw_key(text: &str) -> Option<[u8; KEY_BYTES]> {
    let bytes = if text.trim_start().starts_with("-----BEGIN") {
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let der = STANDARD.decode(body).ok().filter(|der| der.len() == DER_BYTES)?;
        der.get(DER_BYTES - KEY_BYTES..)?.to_vec()
    } else {
        decode(text)?
    };
    bytes.try_into().ok()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    [&URL_SAFE_NO_PAD, &URL_SAFE, &STANDARD_NO_PAD, &STANDARD].iter().find_map(|engine| engine.decode(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    const NONCE: &str = "285aa08c-6437-4302-ad63-9a9553f4099a";
    const SIGNED_AT: u64 = 1_795_362_452_016;

    /// A `connect` of a real version 3 client, with the token `x`.
    fn captured() -> ConnectParams {
        serde_json::from_value(json!({
            "minProtocol": 3, "maxProtocol": 3,
            "client": {"id": "cli", "version": "2026.3.13", "platform": "linux", "mode": "cli"},
            "role": "operator", "auth": {"token": "x"},
            "scopes": ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"],
            "device": {
                "id": "e760ace81e4fa0cf9ca1d6ffed7ff25e040f42bfa8e650725fea135bd1c5c67c",
                "publicKey": "2xgHKxesAyFnM8OYRYqiDIYFemXH9J5QmUk5L9VVKOc",
                "signature": "_76ixHxZVE6vc0OMceHiZa_LB0Hjr5no94HLI_v5Zz1Aon5bkh8dnMtrnagbh3_hmbRgbq7iRXV6BjrglfTBBQ",
                "signedAt": SIGNED_AT, "nonce": NONCE,
            },
        }))
        .unwrap()
    }

    fn check(connect: &ConnectParams) -> Result<Identity, Flaw> {
        verify(connect, connect.device.as_ref().unwrap(), NONCE, SIGNED_AT + 5)
    }

    #[test]
    fn what_a_real_client_signed_is_good() {
        let identity = check(&captured()).unwrap();
        assert_eq!(identity.public_key, "2xgHKxesAyFnM8OYRYqiDIYFemXH9J5QmUk5L9VVKOc");
        let connect = captured();
        let proof = connect.device.as_ref().unwrap();
        assert!(verify(&connect, proof, NONCE, SIGNED_AT - 120_000).is_ok());
        for far in [SIGNED_AT - 120_001, SIGNED_AT + 120_001] {
            assert_eq!(verify(&connect, proof, NONCE, far), Err(Flaw::Stale));
        }
    }

    #[test]
    fn whatever_is_signed_cannot_be_changed() {
        let changes: [fn(&mut ConnectParams); 9] = [
            |connect| connect.client.id = "gateway-client".into(),
            |connect| connect.client.mode = "backend".into(),
            |connect| connect.role = Some("node".into()),
            |connect| connect.scopes.truncate(4),
            |connect| connect.scopes.swap(0, 1),
            |connect| connect.auth.as_mut().unwrap().token = Some("y".into()),
            |connect| connect.client.platform = "macos".into(),
            |connect| connect.client.device_family = Some("phone".into()),
            |connect| connect.device.as_mut().unwrap().signed_at += 1,
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut connect = captured();
            change(&mut connect);
            assert_eq!(check(&connect), Err(Flaw::Signature), "{index}");
        }
    }

    #[test]
    fn flaws_are_found_in_the_order_of_the_real_gateway() {
        let with = |change: fn(&mut DeviceProof)| {
            let mut connect = captured();
            change(connect.device.as_mut().unwrap());
            check(&connect)
        };
        assert_eq!(with(|proof| proof.id = "0".repeat(64)), Err(Flaw::IdMismatch));
        assert_eq!(with(|proof| proof.public_key = "not a key".into()), Err(Flaw::IdMismatch));
        assert_eq!(with(|proof| proof.public_key.push('A')), Err(Flaw::IdMismatch));
        assert_eq!(with(|proof| proof.signed_at = 5), Err(Flaw::Stale));
        assert_eq!(with(|proof| proof.nonce = " ".into()), Err(Flaw::NonceMissing));
        assert_eq!(with(|proof| proof.nonce = "another".into()), Err(Flaw::NonceMismatch));
        assert_eq!(with(|proof| proof.signature = "%".into()), Err(Flaw::Signature));
        assert!(with(|proof| proof.nonce = format!(" {NONCE} ")).is_ok(), "the nonce is trimmed");
    }

    #[test]
    fn keys_come_as_pem_and_signatures_in_any_base64_and_over_version_2() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = pair.public_key().as_ref();
        let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        der.extend_from_slice(key);
        let mut connect = captured();
        let proof = connect.device.as_mut().unwrap();
        proof.id = id_of(key);
        proof.public_key = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&der));
        let payload = payload_v2(&connect, connect.device.as_ref().unwrap());
        let signature = pair.sign(payload.as_bytes());
        for text in [STANDARD.encode(signature.as_ref()), URL_SAFE.encode(signature.as_ref())] {
            connect.device.as_mut().unwrap().signature = text;
            assert_eq!(check(&connect).unwrap().public_key, URL_SAFE_NO_PAD.encode(key));
        }
    }
}
