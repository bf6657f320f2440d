//! Secret placeholders: finding them, checking that they stand where a rule puts them, and filling them in.
//!
//! A guest writes `{{secret:NAME}}`; in a path or query also percent-encoded, as URL libraries do. The check runs before
//! anything is dialled and sees no value; the values are fetched and put in last, into a request that is otherwise
//! ready. A value cannot break out of its place: in a header control characters are refused, in a path or query
//! everything that could end the segment or parameter is percent-encoded.
//!
//! Request bodies are never filled in. They are only watched (see the `body` module) for placeholders of this owner's
//! own secrets, so that an author who expects otherwise is told.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use leanclaw_types::net::{HostPattern, Placement, SecretRule};
use leanclaw_types::redact::Secret;
use url::Url;
use zeroize::Zeroizing;

use crate::error::{EgressError, UndeclaredSecret};
use crate::policy::{EgressPolicy, SecretSource};
use crate::scrub::{MIN_SECRET_BYTES, write_escape};

pub(crate) const OPENING: &[u8] = b"{{secret:";
pub(crate) const CLOSING: &[u8] = b"}}";
const MAX_NAME_BYTES: usize = 64;

/// What stays as it is in a path segment, besides letters, digits, `-`, `.`, `_` and `~`.
pub(crate) const PATH_SAFE: &[u8] = b":@!$&'()*+,;=";
/// What stays as it is in a query parameter, besides the same.
pub(crate) const QUERY_SAFE: &[u8] = b"";

pub(crate) fn percent_encode(value: &[u8], also_safe: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut encoded = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || also_safe.contains(byte) {
            encoded.push(*byte);
        } else {
            write_escape(&mut encoded, *byte);
        }
    }
    encoded
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The byte at the beginning of `text` and what follows it; a percent escape counts as one byte where `encoded`.
fn split_byte(text: &[u8], encoded: bool) -> Option<(u8, &[u8])> {
    if encoded
        && let [b'%', high, low, rest @ ..] = text
        && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
    {
        return Some((high << 4 | low, rest));
    }
    text.split_first().map(|(first, rest)| (*first, rest))
}

fn strip_literal<'a>(text: &'a [u8], literal: &[u8], encoded: bool) -> Option<&'a [u8]> {
    literal.iter().try_fold(text, |text, wanted| {
        split_byte(text, encoded).filter(|(byte, _)| byte == wanted).map(|(_, rest)| rest)
    })
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// What stands at one position of a text.
enum Piece<'a> {
    Other,
    /// A placeholder, and the text behind it.
    Placeholder(String, &'a [u8]),
    /// The beginning of a placeholder without a proper name and end.
    Broken,
}

fn piece_at(text: &[u8], encoded: bool) -> Piece<'_> {
    let Some(mut rest) = strip_literal(text, OPENING, encoded) else { return Piece::Other };
    let mut name = String::new();
    while let Some((byte, after)) = split_byte(rest, encoded).filter(|(byte, _)| is_name_byte(*byte)) {
        name.push(char::from(byte));
        rest = after;
    }
    match strip_literal(rest, CLOSING, encoded) {
        Some(after) if (1..=MAX_NAME_BYTES).contains(&name.len()) => Piece::Placeholder(name, after),
        _ => Piece::Broken,
    }
}

/// The name in the placeholder that `text` begins with, if it begins with one.
pub(crate) fn placeholder_name(text: &[u8]) -> Option<String> {
    match piece_at(text, false) {
        Piece::Placeholder(name, _) => Some(name),
        Piece::Broken | Piece::Other => None,
    }
}

/// The text with each placeholder replaced by what `fill` gives for its name; none when it holds no placeholder.
fn substitute(
    text: &[u8],
    encoded: bool,
    mut fill: impl FnMut(&str) -> Result<Zeroizing<Vec<u8>>, EgressError>,
) -> Result<Option<Zeroizing<Vec<u8>>>, EgressError> {
    let mut output = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut found = false;
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = match piece_at(rest, encoded) {
            Piece::Placeholder(name, after) => {
                found = true;
                output.extend_from_slice(&fill(&name)?);
                after
            }
            Piece::Broken => {
                return Err(EgressError::InvalidRequest {
                    detail:
                        "a secret placeholder is written `{{secret:NAME}}`, the name of A-Z, a-z, 0-9, `-`, `_`, `.`"
                            .into(),
                });
            }
            Piece::Other => {
                output.push(*first);
                tail
            }
        };
    }
    Ok(found.then_some(output))
}

/// Reads a query parameter's name the way servers do.
fn decoded_parameter_name(raw: &[u8]) -> String {
    url::form_urlencoded::parse(raw).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// The values of an owner's granted secrets, fetched once for one request: what is filled in is what is scrubbed.
pub(crate) struct KnownSecrets(Vec<(String, Secret)>);

impl KnownSecrets {
    pub(crate) fn fetch(policy: &EgressPolicy, source: &dyn SecretSource) -> Self {
        let mut known: Vec<(String, Secret)> = Vec::new();
        for rule in &policy.secrets {
            if !known.iter().any(|(name, _)| *name == rule.name)
                && let Some(secret) = source.get(&rule.name)
            {
                known.push((rule.name.clone(), secret));
            }
        }
        Self(known)
    }

    fn get(&self, wanted: &str) -> Option<&Secret> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, secret)| secret)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), secret))
    }
}

/// The rules of one request: who asks, and where it goes.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) policy: &'a EgressPolicy,
    pub(crate) url: &'a Url,
    pub(crate) origin: &'a str,
}

impl<'a> Rules<'a> {
    fn rules_for_host(self) -> impl Iterator<Item = &'a SecretRule> {
        // A secret that may go anywhere is no secret: a rule for `*` counts for nothing.
        self.policy.secrets.iter().filter(move |rule| !rule.host.is_any_host() && rule.host.matches(self.url))
    }

    /// Whether some rule for this host puts a secret into the header called `name`.
    pub(crate) fn fills_header(self, name: &HeaderName) -> bool {
        self.rules_for_host().any(
            |rule| matches!(&rule.placement, Placement::Header(header) if header.eq_ignore_ascii_case(name.as_str())),
        )
    }

    /// Checks that a rule puts the secret `name` at this placement; none stands for a place where none may.
    fn permit(self, name: &str, placement: Option<&Placement>, place: &str) -> Result<(), EgressError> {
        let same_place = |rule: &SecretRule| match (&rule.placement, placement) {
            (Placement::Header(declared), Some(Placement::Header(used))) => declared.eq_ignore_ascii_case(used),
            (declared, used) => Some(declared) == used,
        };
        if self.rules_for_host().any(|rule| rule.name == name && same_place(rule)) {
            return Ok(());
        }
        Err(self.refusal(name, placement, place))
    }

    /// The error for a placeholder that no rule puts there.
    fn refusal(self, name: &str, placement: Option<&Placement>, place: &str) -> EgressError {
        let declared: Vec<String> = self
            .policy
            .secrets
            .iter()
            .filter(|rule| rule.name == name)
            .map(|rule| format!("{}/{}", rule.host, rule.placement))
            .collect();
        let reason = if declared.is_empty() {
            "no secret of that name is declared and granted".to_owned()
        } else {
            format!("it is declared and granted for {} only", declared.join(", "))
        };
        EgressError::SecretNotDeclared(Box::new(UndeclaredSecret {
            owner: self.policy.owner.clone(),
            name: name.to_owned(),
            place: place.to_owned(),
            origin: self.origin.to_owned(),
            reason,
            wanted: HostPattern::for_url(self.url).zip(placement.cloned()),
        }))
    }

    /// The error for a placeholder in a body or message, where no secret is ever filled in.
    pub(crate) fn misplaced(self, name: &str, place: &str) -> EgressError {
        self.refusal(name, None, place)
    }

    /// Checks every placeholder of the request. No value is fetched.
    ///
    /// Gives whether the request holds any.
    pub(crate) fn check(self, headers: &HeaderMap) -> Result<bool, EgressError> {
        let filled = self.fill(headers, |_| Ok(Zeroizing::new(Vec::new())))?;
        Ok(filled.count > 0)
    }

    /// Puts the values in.
    pub(crate) fn apply(self, headers: &HeaderMap, known: &KnownSecrets) -> Result<Filled, EgressError> {
        self.fill(headers, |name| self.value(name, known))
    }

    fn value(self, name: &str, known: &KnownSecrets) -> Result<Zeroizing<Vec<u8>>, EgressError> {
        let unusable = |reason: String| EgressError::SecretMissing {
            owner: self.policy.owner.clone(),
            name: name.to_owned(),
            reason,
        };
        let secret = known.get(name).ok_or_else(|| unusable("it has no value yet; set one".into()))?;
        let value = secret.expose().as_bytes();
        if value.len() < MIN_SECRET_BYTES {
            return Err(unusable(format!("its value is shorter than {MIN_SECRET_BYTES} bytes")));
        }
        if value.iter().any(u8::is_ascii_control) {
            return Err(unusable("its value contains a line break or another control character".into()));
        }
        Ok(Zeroizing::new(value.to_vec()))
    }

    fn fill(
        self,
        headers: &HeaderMap,
        mut value: impl FnMut(&str) -> Result<Zeroizing<Vec<u8>>, EgressError>,
    ) -> Result<Filled, EgressError> {
        let mut count = 0;
        let mut counted = |name: &str, placement: Option<&Placement>, place: &str| {
            self.permit(name, placement, place)?;
            count += 1;
            value(name)
        };
        let path = substitute(self.url.path().as_bytes(), true, |name| {
            Ok(percent_encode(&counted(name, Some(&Placement::Path), "the path")?, PATH_SAFE))
        })?;
        let mut target = path.unwrap_or_else(|| Zeroizing::new(self.url.path().as_bytes().to_vec()));
        if let Some(query) = self.url.query() {
            target.push(b'?');
            target.extend_from_slice(&fill_query(query, &mut counted)?);
        }
        let headers = fill_headers(headers, &mut counted)?;
        Ok(Filled { target, headers, count })
    }
}

type Counted<'a> = dyn FnMut(&str, Option<&Placement>, &str) -> Result<Zeroizing<Vec<u8>>, EgressError> + 'a;

fn fill_query(query: &str, value: &mut Counted<'_>) -> Result<Zeroizing<Vec<u8>>, EgressError> {
    let mut output = Zeroizing::new(Vec::with_capacity(query.len()));
    for (index, parameter) in query.as_bytes().split(|byte| *byte == b'&').enumerate() {
        if index > 0 {
            output.push(b'&');
        }
        let name_bytes = parameter.iter().position(|byte| *byte == b'=').unwrap_or(parameter.len());
        let (name, rest) = parameter.split_at(name_bytes);
        // A placeholder in the name stands in no place a rule can name; `value` refuses it.
        substitute(name, true, |secret| value(secret, None, "the name of a query parameter"))?;
        let placement = Placement::Query(decoded_parameter_name(name));
        let filled = substitute(rest, true, |secret| {
            Ok(percent_encode(&value(secret, Some(&placement), "the query")?, QUERY_SAFE))
        })?;
        output.extend_from_slice(name);
        output.extend_from_slice(filled.as_ref().map_or(rest, |filled| filled.as_slice()));
    }
    Ok(output)
}

fn fill_headers(headers: &HeaderMap, value: &mut Counted<'_>) -> Result<HeaderMap, EgressError> {
    let mut output = HeaderMap::with_capacity(headers.len());
    for (name, original) in headers {
        let placement = Placement::Header(name.as_str().to_owned());
        let place = format!("header `{name}`");
        let filled = substitute(original.as_bytes(), false, |secret| value(secret, Some(&placement), &place))?;
        let header = match filled {
            None => original.clone(),
            Some(bytes) => {
                let mut header = HeaderValue::from_bytes(&bytes).map_err(|_| EgressError::InvalidRequest {
                    detail: format!("header `{name}` with its secret filled in is not a valid header"),
                })?;
                header.set_sensitive(true);
                header
            }
        };
        output.append(name, header);
    }
    Ok(output)
}

/// A request with its secrets in place. Not printable.
pub(crate) struct Filled {
    /// Path and query.
    pub(crate) target: Zeroizing<Vec<u8>>,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// How many placeholders were filled in.
    pub(crate) count: usize,
}

#[cfg(test)]
#[path = "tests/inject.rs"]
mod tests;
