//! A feed in one shape, whatever its format.

use leanclaw_plugin_sdk::Failure;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{json_feed, link, text, xml};

const MAX_TITLE_CHARACTERS: usize = 300;
const MAX_SUMMARY_CHARACTERS: usize = 500;
const MAX_SHORT_CHARACTERS: usize = 2048;

/// A feed.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Feed {
    /// `rss`, `atom` or `json`.
    pub(crate) format: &'static str,
    /// Its title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    /// The page it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<String>,
    /// Its items, in its order.
    pub(crate) items: Vec<Item>,
}

/// An item.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Item {
    /// Stays the same when the item is edited; the link or the title where the feed has none.
    pub(crate) id: String,
    /// Plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    /// Where it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<String>,
    /// When it was published, written as in the feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) published: Option<String>,
    /// Its beginning, as plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<String>,
}

/// An item as its feed writes it: with markup and relative links.
#[derive(Debug, Default)]
pub(crate) struct RawItem {
    pub(crate) id: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) link: Option<String>,
    pub(crate) published: Option<String>,
    pub(crate) summary: Option<String>,
}

impl RawItem {
    /// Cleans it; `base` is what relative links start from.
    pub(crate) fn finish(self, base: &str) -> Item {
        let link = self.link.and_then(|link| link::resolve(base, &link));
        let title = self.title.and_then(|title| text::plain(&title, MAX_TITLE_CHARACTERS));
        let id = self.id.and_then(|id| short(&id)).or_else(|| link.clone()).or_else(|| title.clone());
        Item {
            id: id.unwrap_or_default(),
            title,
            link,
            published: self.published.and_then(|published| short(&published)),
            summary: self.summary.and_then(|summary| text::plain(&summary, MAX_SUMMARY_CHARACTERS)),
        }
    }
}

/// The title of a feed, cleaned.
pub(crate) fn title(raw: Option<String>) -> Option<String> {
    raw.and_then(|raw| text::plain(&raw, MAX_TITLE_CHARACTERS))
}

fn short(raw: &str) -> Option<String> {
    let short: String = raw.trim().chars().take(MAX_SHORT_CHARACTERS).collect();
    (!short.is_empty()).then_some(short)
}

/// Reads at most `limit` items of a feed that came from `url`.
pub(crate) fn read(body: &[u8], media_type: &str, url: &str, limit: usize) -> Result<Feed, Failure> {
    let body = text::decode(body, media_type);
    match body.trim_start().chars().next() {
        Some('<') => xml::read(&body, url, limit),
        Some('{') => json_feed::read(&body, url, limit),
        _ => Err(not_a_feed("it is neither XML nor JSON")),
    }
}

/// The failure of everything that is not a feed.
pub(crate) fn not_a_feed(reason: &str) -> Failure {
    Failure::unsupported(format!("What is at this address is no RSS, Atom or JSON feed: {reason}."))
}
