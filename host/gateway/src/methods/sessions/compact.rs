//! `sessions.compact`: a shorter transcript.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::{SessionChange, SessionRow, TranscriptQuery};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::stop::stop_all;
use super::{KEY_ALIASES, change, failed, touch};
use crate::connection::{Answer, Call};
use crate::phrase::{Shape, no_nulls};
use crate::sessions::{Key, STORE_PATH};
use crate::wire::Payload;

/// Messages that version 3 keeps when nobody says how many.
const USUAL_V3: u64 = 400;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Compact {
    #[schemars(length(min = 1))]
    key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(range(min = 1))]
    max_lines: Option<u64>,
}

static COMPACT: LazyLock<Shape> = LazyLock::new(Shape::of::<Compact>);

/// `sessions.compact {key, maxLines?}` → `{ok, key, compacted, kept?, archived?, reason?}`. With `maxLines` the newest messages
/// stay in sight, and the store keeps the older ones; what goes on in the session ends first. Without, version 4 wants a summary,
/// which nobody writes.
pub(crate) fn compact(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: Compact = call.read(&COMPACT, KEY_ALIASES)?;
    let key = Key::read(&asked.key, asked.agent_id.as_deref())?;
    Ok(call.later(move |state, session| async move {
        let newest = session.version.is_newest();
        let query = TranscriptQuery { limit: 1, ..TranscriptQuery::default() };
        let transcript = state.services.sessions.transcript(&key.text, query).await.map_err(failed(&session))?;
        let refused = |reason: &str| json!({"ok": !newest, "key": key.text, "compacted": false, "reason": reason});
        if transcript.total == 0 {
            return Ok(Payload::json(&refused("no transcript")));
        }
        let Some(most) = asked.max_lines.or((!newest).then_some(USUAL_V3)) else {
            let reason = "no summary is written here; with maxLines the newest messages stay in sight and the older ones \
                          are put aside";
            return Ok(Payload::json(&refused(reason)));
        };
        if transcript.total <= most {
            let fits = json!({"ok": true, "key": key.text, "compacted": false, "kept": transcript.total});
            return Ok(Payload::json(&fits));
        }
        stop_all(&state, &key).await;
        let now_ms = state.now_ms();
        let decide = move |row: Option<SessionRow>| {
            let Some(mut row) = row else { return Ok((SessionChange::Nothing, None)) };
            let count = row.entry.get("compactionCount").and_then(Value::as_u64).unwrap_or(0);
            row.entry.insert("compactionCount".into(), json!(count + 1));
            row.entry.insert("totalTokensFresh".into(), json!(false));
            touch(&mut row, now_ms);
            Ok((SessionChange::Keep { row: row.clone(), messages: most }, Some(row)))
        };
        let Some(row) = change(&state, &session, &key, decide).await? else {
            return Ok(Payload::json(&refused("no transcript")));
        };
        state.session_changed(&row.key, "compact", Some(&row));
        let done = json!({"ok": true, "key": row.key, "compacted": true, "archived": STORE_PATH, "kept": most});
        Ok(Payload::json(&done))
    }))
}
