//! Short notes: the gateway methods `notes.add`, `notes.list`, `notes.search` and `notes.remove`, and the event
//! `notes.changed`.
//!
//! A note lies under `note/<number>`, the number with leading zeros, so that the store's own order is the order in which
//! notes were added. Numbers come from one counter and are never used again.

use leanclaw_plugin_sdk::{Context, Failure, MethodTable, Methods, Scope, events, kv, log, now_ms};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest note, in characters.
const MAX_TEXT_CHARACTERS: usize = 10_000;
/// Notes on one page, when the caller does not say.
const DEFAULT_PAGE: u32 = 50;
/// Most notes on one page.
const MAX_PAGE: u32 = 200;
/// Notes that one search reads at most; each costs a call of the host, which bounds those per call.
const MAX_SEARCHED: u32 = 500;

const COUNTER: &str = "last-id";
const PREFIX: &str = "note/";

#[derive(Default)]
struct Notes;

leanclaw_plugin_sdk::export!(Notes: methods);

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Note {
    /// Its number; rises with each new note.
    id: u64,
    /// What it says.
    text: String,
    /// When it was added, in milliseconds since the Unix epoch.
    created_at_ms: u64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Add {
    /// What the note says.
    #[schemars(length(min = 1, max = MAX_TEXT_CHARACTERS))]
    text: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct List {
    /// Most notes to give; 50 if absent.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<u32>,
    /// Start after this note: the `next` of the page before.
    after: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Search {
    /// Words that must all occur, in upper or lower case.
    #[schemars(length(min = 1, max = 200))]
    query: String,
    /// Most notes to give; 50 if absent.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<u32>,
    /// Start after this note: the `next` of the page before.
    after: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remove {
    /// The note's number.
    id: u64,
}

/// Notes in the order in which they were added.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Page {
    notes: Vec<Note>,
    /// Where the next page starts; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct Removed {
    /// Whether there was such a note.
    removed: bool,
}

/// The payload of `notes.changed`.
#[derive(Serialize)]
struct Changed {
    change: &'static str,
    id: u64,
}

impl Methods for Notes {
    fn methods() -> MethodTable<Self> {
        MethodTable::new()
            .method("add", "Adds a note.", Scope::Write, Self::add)
            .method("list", "Gives notes in the order in which they were added.", Scope::Read, Self::list)
            .method("search", "Gives the notes that hold all given words.", Scope::Read, Self::search)
            .method("remove", "Removes a note.", Scope::Write, Self::remove)
    }
}

impl Notes {
    fn add(&self, _context: &Context, add: Add) -> Result<Note, Failure> {
        let text = add.text.trim();
        if text.is_empty() {
            return Err(Failure::invalid_input("The note is empty."));
        }
        let characters = text.chars().count();
        if characters > MAX_TEXT_CHARACTERS {
            let message = format!("The note has {characters} characters; the limit is {MAX_TEXT_CHARACTERS}.");
            return Err(Failure::too_large(message));
        }
        let id = kv::update(COUNTER, |last: Option<u64>| Ok(last.unwrap_or(0) + 1))?;
        let note = Note { id, text: text.to_owned(), created_at_ms: now_ms() };
        kv::put_json(&key(id), &note)?;
        announce("added", id);
        Ok(note)
    }

    fn list(&self, _context: &Context, list: List) -> Result<Page, Failure> {
        let wanted = page_size(list.limit)?;
        collect(list.after, wanted, wanted, |_| true)
    }

    fn search(&self, context: &Context, search: Search) -> Result<Page, Failure> {
        let words: Vec<String> = search.query.split_whitespace().map(str::to_lowercase).collect();
        if words.is_empty() {
            return Err(Failure::invalid_input("The query has no word."));
        }
        context.check()?;
        collect(search.after, page_size(search.limit)?, MAX_SEARCHED, |note| {
            let text = note.text.to_lowercase();
            words.iter().all(|word| text.contains(word.as_str()))
        })
    }

    fn remove(&self, _context: &Context, remove: Remove) -> Result<Removed, Failure> {
        let removed = kv::delete(&key(remove.id))?;
        if removed {
            announce("removed", remove.id);
        }
        Ok(Removed { removed })
    }
}

fn key(id: u64) -> String {
    format!("{PREFIX}{id:020}")
}

fn number(key: &str) -> Option<u64> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

fn page_size(limit: Option<u32>) -> Result<u32, Failure> {
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit);
    }
    Err(Failure::invalid_input(format!("`limit` is {limit}; use 1 to {MAX_PAGE}.")))
}

/// Reads at most `read` notes after `after` and gives the first `wanted` of those that fit. `next` is the last note that
/// was looked at, so that a caller who follows it sees every note once, whatever is added or removed meanwhile.
fn collect(after: Option<u64>, wanted: u32, read: u32, fits: impl Fn(&Note) -> bool) -> Result<Page, Failure> {
    // One key more than is read tells whether there is a next page.
    let keys = kv::keys(PREFIX, after.map(key).as_deref(), read + 1)?;
    let mut notes = Vec::new();
    for (index, key) in keys.iter().take(read as usize).enumerate() {
        // A note may have been removed since the keys were listed.
        notes.extend(kv::get_json::<Note>(key)?.filter(&fits));
        let more = index + 1 < keys.len();
        if more && (notes.len() == wanted as usize || index + 1 == read as usize) {
            return Ok(Page { notes, next: number(key) });
        }
    }
    Ok(Page { notes, next: None })
}

/// Tells clients. The note is stored by then, so a failure here must not look like a failure to store it.
fn announce(change: &'static str, id: u64) {
    if let Err(failure) = events::emit("changed", &Changed { change, id }) {
        log::warn!("the event was not sent: {failure}");
    }
}

#[cfg(test)]
mod tests;
