//! The two allowlist files of the original.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Result;
use leanclaw_store::{RecordChange, Store};
use leanclaw_types::allowlist::{AllowlistError, MountAllowlist, SenderAllowlist};
use serde::Serialize;

use super::{Kept, Outcome, Tally};
use crate::report::Advice;

const KIND: &str = "original.allowlist";

/// Takes in the allowlist files of a folder, as far as they are there.
///
/// # Errors
/// A file cannot be read or is not right: what it means to refuse must not be let in by leaving it out.
pub(super) async fn take_in(folder: &Path, store: &Store, outcome: &mut Outcome) -> Result<()> {
    type Read = fn(&str) -> Result<String, AllowlistError>;
    let files: [(&str, &str, Read, &str); 2] = [
        (
            "sender-allowlist.json",
            "senders",
            |text| SenderAllowlist::read(text).and_then(|list| text_of(&list)),
            "agents",
        ),
        (
            "mount-allowlist.json",
            "mounts",
            |text| MountAllowlist::read(text).and_then(|list| text_of(&list)),
            "sandboxes",
        ),
    ];
    for (name, id, read, waits_for) in files {
        let path = folder.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Advice::new(format!("{} cannot be read: {error}", path.display())).into()),
        };
        let body = read(&text).map_err(|error| {
            Advice::new(format!("{} is not right: {error}", path.display()))
                .hint("put it right, or move it away and take the database in without it; nothing was taken in")
        })?;
        let is_new = !store.records(KIND)?.iter().any(|(known, there)| known == id && *there == body);
        let mut tally = Tally::default();
        tally.count(is_new);
        if is_new && !outcome.dry_run {
            let change = RecordChange { kind: KIND.to_owned(), id: id.to_owned(), body: Some(body) };
            store.change_records(vec![change], Vec::new()).await?;
        }
        let (name, kept_as) = (name.to_owned(), KIND.to_owned());
        outcome.kept.push(Kept { name, tally, first: vec![path.display().to_string()], kept_as, waits_for });
    }
    Ok(())
}

fn text_of(list: &impl Serialize) -> Result<String, AllowlistError> {
    serde_json::to_string(list).map_err(|error| AllowlistError::Shape(error.to_string()))
}
