//! Tests of the whole crate against real files.

mod audit;
mod core;
mod durability;
mod history;
mod kv;
mod opening;
mod queue;
mod runs;
mod sessions;
mod trouble;
mod upkeep;
mod writing;

use leanclaw_types::PluginKey;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::message::{Blob, Inbound, Part, Person, Place, Received};
use leanclaw_types::permission::Permissions;
use tempfile::TempDir;

use crate::{GrantRow, KvStore, RecordChange, Store};

fn store() -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn kv_store() -> (TempDir, KvStore) {
    let folder = TempDir::new().unwrap();
    let store = KvStore::open(folder.path()).unwrap();
    (folder, store)
}

pub(crate) fn key(text: &str) -> PluginKey {
    text.parse().unwrap()
}

fn denied(scope: &str) -> AuditRecord {
    AuditRecord {
        at_ms: 1,
        actor: "client:test".into(),
        event: AuditEvent::ScopeDenied { method: "m".into(), scope: scope.into(), repeated: 0 },
    }
}

fn granted(plugin: &str) -> AuditRecord {
    let event =
        AuditEvent::PluginGranted { plugin: plugin.into(), added: vec!["inbox".into()], granted: vec!["inbox".into()] };
    AuditRecord { at_ms: 2, actor: "client:cli".into(), event }
}

pub(crate) fn record(kind: &str, id: &str, body: Option<&str>) -> RecordChange {
    RecordChange { kind: kind.into(), id: id.into(), body: body.map(str::to_owned) }
}

fn grant(plugin: &str) -> GrantRow {
    GrantRow {
        key: key(plugin),
        permissions: Permissions { inbox: true, ..Permissions::default() },
        granted_at_ms: 2,
        granted_by: "client:cli".into(),
        decided: Permissions::default(),
    }
}

fn received(id: &str) -> Received {
    let part = Part {
        kind: "file".into(),
        text: None,
        blob: Some(Blob { media_type: "image/png".into(), data: vec![0, 1, 255] }),
        extra: None,
    };
    let text = Part { kind: "text".into(), text: Some("hello".into()), blob: None, extra: None };
    Received {
        plugin: "chat".parse().unwrap(),
        account: "default".parse().unwrap(),
        channel: "chat".into(),
        received_at_ms: 5,
        message: Inbound {
            id: id.into(),
            sender: Person { id: "ada".into(), display_name: None, bot: false, extra: None },
            place: Place { id: "room".into(), kind: "group".into(), thread: None, title: None, extra: None },
            parts: vec![text, part],
            reply_to: None,
            sent_at_ms: 4,
            extra: None,
        },
    }
}
