//! `agents.workspace.*`: looking through the folder that an agent works in. Nothing is written by this way.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leanclaw_types::frame::ErrorShape;
use leanclaw_types::text::shown;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::agents::{blocking, later, workspace};
use crate::connection::{Answer, Call};
use crate::phrase::{Shape, no_nulls};
use crate::wire::joined;
use crate::workspace::{Found, Place, Seen, Workspace, WorkspaceError};

/// Entries that are told at once when nobody says how many, and at the most.
const USUAL_ENTRIES: usize = 200;
const MOST_ENTRIES: usize = 1000;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct List {
    #[schemars(length(min = 1))]
    agent_id: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    #[schemars(with = "u64")]
    offset: Option<u64>,
    #[serde(default)]
    #[schemars(with = "u64", range(min = 1))]
    limit: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Which {
    #[schemars(length(min = 1))]
    agent_id: String,
    #[schemars(length(min = 1))]
    path: String,
}

static LIST: LazyLock<Shape> = LazyLock::new(Shape::of::<List>);
static WHICH: LazyLock<Shape> = LazyLock::new(Shape::of::<Which>);

/// What files are, by the ends of their names.
const TYPES: &[(&str, &str)] = &[
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("gif", "image/gif"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("md", "text/markdown"),
    ("mjs", "text/javascript"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain"),
    ("webp", "image/webp"),
    ("xml", "application/xml"),
];

/// `agents.workspace.list {agentId, path?, offset?, limit?}` → `{agentId, path, parentPath?, entries, totalEntries, offset}`:
/// the folders and plain files in a folder of the workspace, folders first. Paths begin at the workspace, which is the empty
/// one and has no parent.
pub(crate) fn list(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let list: List = call.read(&LIST, &[])?;
    Ok(later(call, |state, by| async move {
        let workspace = workspace(&state, by.version, &list.agent_id)?;
        let path = list.path.unwrap_or_default();
        let place = place(&path)?;
        let number =
            |given: Option<u64>, or: usize| given.map_or(or, |given| usize::try_from(given).unwrap_or(usize::MAX));
        let (offset, limit) = (number(list.offset, 0), number(list.limit, USUAL_ENTRIES).min(MOST_ENTRIES));
        let shown = place.clone();
        let seen = blocking(move || workspace.list(&place, offset, limit)).await?;
        let Some((entries, total)) = seen else { return Err(absent("folder", &path)) };
        let entries: Vec<Value> = entries.iter().map(|seen| entry(&shown, seen)).collect();
        let answer = json!({
            "agentId": list.agent_id, "path": path, "entries": entries, "totalEntries": total, "offset": offset,
        });
        Ok(joined(answer, shown.split_last().map(|(parent, _)| ("parentPath", json!(parent.to_string())))))
    }))
}

/// `agents.workspace.get {agentId, path}` → `{agentId, file}`: a plain file with its content, as text when it is UTF-8.
pub(crate) fn get(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let which: Which = call.read(&WHICH, &[])?;
    Ok(later(call, |state, by| async move {
        let workspace = workspace(&state, by.version, &which.agent_id)?;
        let path = which.path;
        let (folder, name) = place(&path)?.split_last().ok_or_else(|| absent("file", &path))?;
        let read = blocking(move || read(&workspace, &folder, name)).await?;
        let Some(mut file) = read else { return Err(absent("file", &path)) };
        file.insert("path".into(), json!(path));
        Ok(json!({"agentId": which.agent_id, "file": file}))
    }))
}

fn read(workspace: &Workspace, folder: &Place, name: String) -> Result<Option<Map<String, Value>>, WorkspaceError> {
    let Some((Found { bytes, changed_at_ms }, content)) = workspace.bytes(folder, &name)? else { return Ok(None) };
    let (encoding, otherwise, content) = match String::from_utf8(content) {
        Ok(text) => ("utf8", "text/plain", text),
        Err(error) => ("base64", "application/octet-stream", STANDARD.encode(error.as_bytes())),
    };
    let end = name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default();
    let kind = TYPES.iter().find(|(known, _)| *known == end).map_or(otherwise, |(_, kind)| kind);
    let mut file = Map::new();
    file.insert("name".into(), json!(name));
    file.insert("size".into(), json!(bytes));
    file.insert("updatedAtMs".into(), json!(changed_at_ms));
    file.insert("mimeType".into(), json!(kind));
    file.insert("encoding".into(), json!(encoding));
    file.insert("content".into(), json!(content));
    Ok(Some(file))
}

fn entry(folder: &Place, seen: &Seen) -> Value {
    let mut entry = json!({"path": folder.join(&seen.name).to_string(), "name": seen.name});
    if let Some(entry) = entry.as_object_mut() {
        match &seen.file {
            None => drop(entry.insert("kind".into(), json!("directory"))),
            Some(file) => {
                entry.insert("kind".into(), json!("file"));
                entry.insert("size".into(), json!(file.bytes));
                entry.insert("updatedAtMs".into(), json!(file.changed_at_ms));
            }
        }
    }
    entry
}

fn place(path: &str) -> Result<Place, ErrorShape> {
    Place::of(path).ok_or_else(|| {
        let wanted = "a path begins in the workspace and leads on by names with one / between them";
        ErrorShape::invalid(format!("unsupported path \"{}\": {wanted}", shown(path, 200)))
    })
}

fn absent(what: &str, path: &str) -> ErrorShape {
    ErrorShape::invalid(format!("the workspace has no {what} \"{}\"", shown(path, 200)))
}
