//! The tool `read_feed`: fetches an RSS, Atom or JSON feed over `wasi:http` and gives its newest items as plain text.
//!
//! What a server sends is not trusted: sizes, depths and counts are bounded, markup becomes text, and only links to http
//! and https survive. The host decides which servers may be asked at all.

mod feed;
mod json_feed;
mod link;
mod text;
mod xml;

use leanclaw_plugin_sdk::http::{Request, Response};
use leanclaw_plugin_sdk::{Context, Failure, Skill, Structured, Tool, ToolTable, log, skill::effect};
use schemars::JsonSchema;
use serde::Deserialize;

use feed::Feed;

const DEFAULT_ITEMS: u32 = 20;
const MAX_ITEMS: u32 = 100;
const MAX_URL_CHARACTERS: usize = 2048;
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
const MAX_REDIRECTS: usize = 3;
const TIMEOUT_MS: u64 = 15_000;

#[derive(Default)]
struct FeedReader;

leanclaw_plugin_sdk::export!(FeedReader: skill);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadFeed {
    /// The address of the feed itself, not of the page that links to it.
    #[schemars(length(min = 1, max = MAX_URL_CHARACTERS))]
    url: String,
    /// Most items to give; 20 if absent.
    #[schemars(range(min = 1, max = MAX_ITEMS))]
    limit: Option<u32>,
}

impl Skill for FeedReader {
    fn tools() -> ToolTable<Self> {
        ToolTable::new().tool(
            Tool::new(
                "read_feed",
                "Reads an RSS, Atom or JSON feed: titles, links, dates and short summaries of its items, in the order of \
                 the feed, which is usually the newest first.",
                Self::read_feed,
            )
            .effects([effect::READS, effect::NETWORK])
            .idempotent(),
        )
    }
}

impl FeedReader {
    fn read_feed(&self, context: &Context, input: ReadFeed) -> Result<Structured<Feed>, Failure> {
        let limit = input.limit.unwrap_or(DEFAULT_ITEMS);
        if !(1..=MAX_ITEMS).contains(&limit) {
            return Err(Failure::invalid_input(format!("`limit` is {limit}; use 1 to {MAX_ITEMS}.")));
        }
        if input.url.chars().count() > MAX_URL_CHARACTERS {
            return Err(Failure::invalid_input(format!("`url` has more than {MAX_URL_CHARACTERS} characters.")));
        }
        let (url, response) = fetch(context, input.url)?;
        let media_type = response.headers.get("content-type").unwrap_or_default().to_owned();
        let body = response.bytes(MAX_BODY_BYTES)?;
        feed::read(&body, &media_type, &url, limit as usize).map(Structured::new)
    }
}

/// Gets `url`, following a few redirects. The host follows none by itself, so each hop passes its gate like the first.
fn fetch(context: &Context, url: String) -> Result<(String, Response), Failure> {
    let mut url = url;
    for _ in 0..=MAX_REDIRECTS {
        context.check()?;
        let response = Request::get(url.as_str())
            .header("accept", "application/rss+xml, application/atom+xml, application/feed+json, */*;q=0.5")
            .header("user-agent", "leanclaw-feed-reader")
            .timeout_ms(TIMEOUT_MS)
            .send_over_wasi()?;
        let target = match response.status {
            301 | 302 | 303 | 307 | 308 => response.headers.get("location").and_then(|to| link::resolve(&url, to)),
            _ => return Ok((url, response.success()?)),
        };
        let Some(target) = target else {
            return Err(Failure::unsupported(
                "The server redirects to something that is not an http or https address.",
            ));
        };
        log::debug!("{url} redirects to {target}");
        url = target;
    }
    Err(Failure::unsupported(format!("The server redirects more than {MAX_REDIRECTS} times.")))
}

#[cfg(test)]
mod tests;
