//! Secrets that the host uses on the plugin's behalf: it signs and verifies, the value never comes here. Needs
//! `permissions.secrets` with `"hmac": true`. For a secret in a request, write `{{secret:NAME}}` there instead; see
//! [`http`](crate::http).

use crate::failure::Failure;
use crate::host;

/// Whether an admin has set the secret.
#[must_use]
pub fn exists(name: &str) -> bool {
    host::credential_exists(name)
}

/// The 32 bytes of HMAC-SHA256 over `message` with the secret.
///
/// # Errors
/// `not-found` when the secret is not set, `denied` when it may not be used for this.
pub fn hmac_sha256(name: &str, message: &[u8]) -> Result<Vec<u8>, Failure> {
    host::credential_hmac_sha256(name, message)
}

/// Whether `tag` is the HMAC-SHA256 over `message` with the secret, compared in constant time.
///
/// # Errors
/// As for [`hmac_sha256`].
pub fn verify_hmac_sha256(name: &str, message: &[u8], tag: &[u8]) -> Result<bool, Failure> {
    host::credential_verify_hmac_sha256(name, message, tag)
}
