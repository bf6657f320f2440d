//! Answers to `sessions.list`, kept as text until something is stored: clients ask for the same list again and again.
//!
//! It knows nothing of sessions: an answer is good as long as [`crate::Sessions::revision`] is what it was before the
//! sessions of that answer were read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use leanclaw_types::frame::ProtocolVersion;

/// Answers that are kept, over all versions.
const MAX_ANSWERS: usize = 32;
/// The longest answer that is kept, and the longest parameters, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const MAX_PARAMS_BYTES: usize = 1024;
/// What an answer begins with; a number follows.
const HEAD: &str = "{\"ts\":";

/// Kept answers.
#[derive(Debug, Default)]
pub(crate) struct Lists(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    revision: u64,
    /// What follows the time, by parameters as they were sent.
    answers: HashMap<String, (ProtocolVersion, Arc<str>)>,
}

impl Lists {
    /// The answer to a call with these parameters, as of now; none when it has to be made.
    pub(crate) fn get(&self, revision: u64, version: ProtocolVersion, params: &str, now_ms: u64) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, rest) = kept.answers.get(params).filter(|(own, _)| kept.revision == revision && *own == version)?;
        let rest = Arc::clone(rest);
        drop(kept);
        let mut text = String::with_capacity(HEAD.len() + 20 + rest.len());
        text.push_str(HEAD);
        text.push_str(&now_ms.to_string());
        text.push_str(&rest);
        Some(text)
    }

    /// Keeps an answer. `revision` is what it was before the sessions were read: what was stored meanwhile may be missing.
    pub(crate) fn keep(&self, revision: u64, version: ProtocolVersion, params: String, answer: &str) {
        let rest = answer.strip_prefix(HEAD).map(|text| text.trim_start_matches(|byte: char| byte.is_ascii_digit()));
        let Some(rest) = rest.filter(|_| answer.len() <= MAX_ANSWER_BYTES && params.len() <= MAX_PARAMS_BYTES) else {
            return;
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if revision < kept.revision {
            return;
        }
        if revision > kept.revision || kept.answers.len() >= MAX_ANSWERS {
            kept.answers.clear();
            kept.revision = revision;
        }
        kept.answers.insert(params, (version, rest.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3: ProtocolVersion = ProtocolVersion::V3;
    const V4: ProtocolVersion = ProtocolVersion::V4;

    #[test]
    fn an_answer_is_good_until_something_is_stored() {
        let lists = Lists::default();
        lists.keep(7, V4, "{}".into(), "{\"ts\":123,\"count\":1}");
        assert_eq!(lists.get(7, V4, "{}", 4567).unwrap(), "{\"ts\":4567,\"count\":1}");
        assert_eq!(lists.get(7, V3, "{}", 1), None, "another version");
        assert_eq!(lists.get(7, V4, "{ }", 1), None, "other parameters");
        assert_eq!(lists.get(8, V4, "{}", 1), None, "something was stored");
        lists.keep(8, V4, "{}".into(), "{\"ts\":1,\"count\":2}");
        lists.keep(7, V4, "{}".into(), "{\"ts\":1,\"count\":1}");
        assert_eq!(lists.get(8, V4, "{}", 1).unwrap(), "{\"ts\":1,\"count\":2}", "a late answer replaces no newer one");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let lists = Lists::default();
        let long = format!("{{\"ts\":1,\"x\":\"{}\"}}", "x".repeat(MAX_ANSWER_BYTES));
        lists.keep(1, V4, "{}".into(), &long);
        lists.keep(1, V4, " ".repeat(MAX_PARAMS_BYTES + 1), "{\"ts\":1}");
        lists.keep(1, V4, "{}".into(), "[]");
        assert!(lists.0.lock().unwrap().answers.is_empty());
        for number in 0..1000 {
            lists.keep(1, V4, number.to_string(), "{\"ts\":1}");
        }
        assert!(lists.0.lock().unwrap().answers.len() <= MAX_ANSWERS);
        assert!(lists.get(1, V4, "999", 1).is_some());
    }
}
