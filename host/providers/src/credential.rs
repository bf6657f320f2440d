//! What a provider is shown to prove who asks, and how it is renewed.
//!
//! Where credentials are kept is the business of whoever implements [`Credentials`]. Here it is made sure that a refused
//! one is renewed once, however many calls were refused with it, and that none is ever shown.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use leanclaw_types::failure::code;
use leanclaw_types::redact::{REDACTED, Secret};
use leanclaw_types::{Failure, text};
use tokio::sync::Mutex;

/// The shortest secret that is looked for in what a server says: less would ruin honest messages.
const MIN_SECRET_BYTES: usize = 4;

/// What a provider is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A key, in the header that the provider has for it.
    Key(Secret),
    /// A key as `Authorization: Bearer`, as gateways in front of a provider ask for it.
    BearerKey(Secret),
    /// A token of a login (OAuth), as `Authorization: Bearer`.
    Token(Secret),
    /// Nothing: a server that asks nobody, as on this machine.
    None,
}

impl Credential {
    fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Key(secret) | Self::BearerKey(secret) | Self::Token(secret) => Some(secret),
            Self::None => None,
        }
    }

    /// Whether it comes from a login.
    pub(crate) fn is_token(&self) -> bool {
        matches!(self, Self::Token(_))
    }

    /// Puts it into `headers`: a key into the one called `key_header`, or as `Authorization: Bearer` where the provider has
    /// none for keys.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, key_header: Option<HeaderName>) -> Result<(), Failure> {
        let Some(secret) = self.secret().map(Secret::expose) else { return Ok(()) };
        if secret.trim().is_empty() {
            return Err(Failure::new(code::AUTH_REQUIRED, "The credential is empty.").hint("set it, or remove it"));
        }
        let (name, value) = match (self, key_header) {
            (Self::Key(_), Some(name)) => (name, HeaderValue::from_str(secret)),
            _ => (AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {secret}"))),
        };
        let mut value = value.map_err(|_| {
            Failure::new(code::AUTH_REQUIRED, "The credential holds characters that no header can carry.")
                .hint("set it again, without line breaks and quotes")
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }

    /// What a server said, at most `most` characters of it, without this credential and safe to show.
    pub(crate) fn scrub(&self, said: &str, most: usize) -> String {
        let secret = self.secret().map(Secret::expose).filter(|secret| secret.len() >= MIN_SECRET_BYTES);
        let said = secret.map_or_else(|| said.to_owned(), |secret| said.replace(secret, REDACTED));
        let mut shown: String = said.chars().take(most).collect();
        if shown.len() < said.len() {
            shown.push('…');
        }
        text::escape(&shown)
    }
}

/// Where a provider's credential comes from.
#[async_trait]
pub trait Credentials: Send + Sync + 'static {
    /// The setting or command by which a person changes it, such as `LEANCLAW_ANTHROPIC_API_KEY`. Shown in hints.
    fn setting(&self) -> String;

    /// What to show now. Whoever can see that it is about to expire renews it before giving it.
    ///
    /// # Errors
    /// When there is none.
    async fn current(&self) -> Result<Credential, Failure>;

    /// Another one in place of `refused`; none where there is no other. Runs to its end even when the caller goes away,
    /// and never twice at once.
    ///
    /// # Errors
    /// When renewing failed.
    async fn refresh(&self, refused: &Credential) -> Result<Option<Credential>, Failure>;
}

/// A credential that stays what it is.
#[derive(Debug, Clone)]
pub struct FixedCredential {
    setting: String,
    credential: Credential,
}

impl FixedCredential {
    /// `credential`, as it stands in `setting`.
    #[must_use]
    pub fn new(setting: impl Into<String>, credential: Credential) -> Self {
        Self { setting: setting.into(), credential }
    }
}

#[async_trait]
impl Credentials for FixedCredential {
    fn setting(&self) -> String {
        self.setting.clone()
    }

    async fn current(&self) -> Result<Credential, Failure> {
        Ok(self.credential.clone())
    }

    async fn refresh(&self, _refused: &Credential) -> Result<Option<Credential>, Failure> {
        Ok(None)
    }
}

/// How often it was tried to renew, and what came of the last time.
#[derive(Default)]
struct Renewals {
    tries: u64,
    last: Option<Result<Option<Credential>, Failure>>,
}

/// A credential as it was shown, and when.
pub(crate) struct Shown {
    pub(crate) credential: Credential,
    /// How often it had been tried to renew by then.
    tries: u64,
}

/// The credentials of one provider, renewed once for all calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Login {
    source: Arc<dyn Credentials>,
    renewals: Arc<Mutex<Renewals>>,
}

impl Login {
    pub(crate) fn new(source: Arc<dyn Credentials>) -> Self {
        Self { source, renewals: Arc::default() }
    }

    pub(crate) fn setting(&self) -> String {
        self.source.setting()
    }

    /// What to show now.
    pub(crate) async fn current(&self) -> Result<Shown, Failure> {
        // Counted first: who is refused with what came before a renewal may use what that gave.
        let tries = self.renewals.lock().await.tries;
        Ok(Shown { credential: self.source.current().await?, tries })
    }

    /// Another credential in place of one that was refused; none where there is no other. Whoever comes while it is being
    /// renewed, or was refused with what was renewed since, gets what came of that.
    pub(crate) async fn renew(&self, refused: Shown) -> Result<Option<Shown>, Failure> {
        let login = self.clone();
        // A task of its own: a renewal that is cut in half may have used up the token it renews with.
        let renewing = tokio::spawn(async move {
            let mut renewals = login.renewals.lock().await;
            if let Some(last) = renewals.last.as_ref().filter(|_| renewals.tries > refused.tries) {
                return (last.clone(), renewals.tries);
            }
            let result = login.source.refresh(&refused.credential).await;
            renewals.tries += 1;
            renewals.last = Some(result.clone());
            (result, renewals.tries)
        });
        let (result, tries) =
            renewing.await.map_err(|_| Failure::internal("Renewing the credential ended before its time."))?;
        Ok(result?.map(|credential| Shown { credential, tries }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_never_shown() {
        let credential = Credential::Key(Secret::new("sk-ant-api03-hidden"));
        let said = credential.scrub("bad key sk-ant-api03-hidden\u{1b}[2J", 200);
        assert_eq!(said, "bad key [redacted]\\u{1b}[2J");
        assert_eq!(credential.scrub("abcdef", 3), "abc…");
        let mut headers = HeaderMap::new();
        credential.apply(&mut headers, Some(HeaderName::from_static("x-api-key"))).unwrap();
        let fixed = FixedCredential::new("KEY", credential);
        let shown = format!("{fixed:?} {headers:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert_eq!(headers["x-api-key"], "sk-ant-api03-hidden");
    }

    #[test]
    fn a_credential_that_no_header_carries_is_refused_without_being_shown() {
        let credential = Credential::Token(Secret::new("two\nlines"));
        let failure = credential.apply(&mut HeaderMap::new(), None).unwrap_err();
        assert_eq!(failure.code, code::AUTH_REQUIRED);
        assert!(!format!("{failure:?}").contains("two"), "{failure:?}");
    }

    #[test]
    fn an_empty_credential_is_no_header() {
        let mut headers = HeaderMap::new();
        for secret in ["", " "].map(Secret::new) {
            for credential in
                [Credential::Key(secret.clone()), Credential::BearerKey(secret.clone()), Credential::Token(secret)]
            {
                assert_eq!(credential.apply(&mut headers, None).unwrap_err().code, code::AUTH_REQUIRED);
            }
        }
        Credential::None.apply(&mut headers, None).unwrap();
        assert_eq!((headers.len(), Credential::None.scrub("said", 9)), (0, "said".to_owned()));
        Credential::Key(Secret::new("k")).apply(&mut headers, None).unwrap();
        assert_eq!(headers[AUTHORIZATION], "Bearer k");
    }
}
