//! `credentials`: whether a secret is there, and HMAC with it. A value never reaches the guest.

use hmac::{Hmac, KeyInit, Mac};
use leanclaw_types::Failure;
use leanclaw_types::redact::Secret;
use sha2::Sha256;

use crate::bindings::imports::credentials::Host;
use crate::bindings::imports::types;
use crate::state::{InstanceState, to_guest};

type Answer<T> = wasmtime::Result<Result<T, types::Failure>>;

impl InstanceState {
    fn hmac(&self, name: &str, message: &[u8]) -> Result<Hmac<Sha256>, Failure> {
        let secret = self.hmac_secret(name)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
            .map_err(|_| Failure::internal(format!("The secret `{name}` cannot be used as an HMAC key.")))?;
        mac.update(message);
        Ok(mac)
    }

    fn hmac_secret(&self, name: &str) -> Result<Secret, Failure> {
        let key = &self.shared.key;
        let shown = crate::logs::escape(crate::logs::cut(name, 64));
        let granted = self.shared.granted.secrets.iter().any(|secret| secret.hmac && secret.name == name);
        if !granted {
            return Err(Failure::denied(format!("The plugin `{key}` may not use the secret `{shown}` for HMAC."))
                .hint(format!(
                    "declare {{\"name\": \"{shown}\", \"hmac\": true}} in permissions.secrets of the manifest"
                ))
                .hint(format!("leanclaw plugin grant {key} secret:{shown}@hmac")));
        }
        self.shared.services.secrets.secret(key, name).ok_or_else(|| {
            Failure::unavailable(format!("No value is stored for the secret `{shown}` of `{key}`."))
                .hint(format!("leanclaw plugin secret set {key} {shown}"))
        })
    }
}

impl Host for InstanceState {
    fn exists(&mut self, name: String) -> wasmtime::Result<bool> {
        self.enter()?;
        if !self.shared.granted.secrets.iter().any(|secret| secret.name == name) {
            return Ok(false);
        }
        Ok(self.shared.services.secrets.secret(&self.shared.key, &name).is_some())
    }

    fn hmac_sha256(&mut self, name: String, message: Vec<u8>) -> Answer<Vec<u8>> {
        self.enter()?;
        let tag = self.hmac(&name, &message).map(|mac| mac.finalize().into_bytes().to_vec());
        Ok(tag.map_err(|failure| to_guest(&failure)))
    }

    fn verify_hmac_sha256(&mut self, name: String, message: Vec<u8>, tag: Vec<u8>) -> Answer<bool> {
        self.enter()?;
        // `verify_slice` compares in constant time.
        let good = self.hmac(&name, &message).map(|mac| mac.verify_slice(&tag).is_ok());
        Ok(good.map_err(|failure| to_guest(&failure)))
    }
}
