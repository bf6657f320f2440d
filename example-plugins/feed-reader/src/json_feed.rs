//! JSON Feed, versions 1 and 1.1.

use leanclaw_plugin_sdk::Failure;
use serde::Deserialize;
use serde_json::Value;

use crate::feed::{self, Feed, RawItem, not_a_feed};
use crate::link;

const VERSION_PREFIX: &str = "https://jsonfeed.org/version/";

#[derive(Deserialize)]
struct Document {
    version: String,
    title: Option<String>,
    home_page_url: Option<String>,
    #[serde(default)]
    items: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    // A number in many feeds, against the specification.
    id: Option<Value>,
    url: Option<String>,
    external_url: Option<String>,
    title: Option<String>,
    summary: Option<String>,
    content_text: Option<String>,
    content_html: Option<String>,
    date_published: Option<String>,
    date_modified: Option<String>,
}

/// Reads at most `limit` items.
pub(crate) fn read(body: &str, url: &str, limit: usize) -> Result<Feed, Failure> {
    let document: Document =
        serde_json::from_str(body).map_err(|error| not_a_feed(&format!("its JSON does not fit ({error})")))?;
    if !document.version.starts_with(VERSION_PREFIX) {
        return Err(not_a_feed("its JSON is of another kind"));
    }
    Ok(Feed {
        format: "json",
        title: feed::title(document.title),
        link: document.home_page_url.and_then(|link| link::resolve(url, &link)),
        items: document
            .items
            .into_iter()
            .map(|entry| entry.into_raw().finish(url))
            .filter(|item| !item.id.is_empty())
            .take(limit)
            .collect(),
    })
}

impl Entry {
    fn into_raw(self) -> RawItem {
        RawItem {
            id: self.id.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)),
            title: self.title,
            link: self.url.or(self.external_url),
            published: self.date_published.or(self.date_modified),
            summary: self.summary.or(self.content_text).or(self.content_html),
        }
    }
}
