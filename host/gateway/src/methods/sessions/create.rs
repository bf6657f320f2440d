//! `sessions.create`.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::SessionChange;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::patch::apply;
use super::turn::{Turn, check_message};
use super::{KEY_ALIASES, change, fresh};
use crate::connection::{Answer, Call};
use crate::handshake::Session;
use crate::methods::pictures::pictures;
use crate::methods::{ADMIN, WRITE};
use crate::phrase::{Shape, no_nulls};
use crate::sessions::{Begun, Key, agent_id, entry};
use crate::wire::{Payload, joined};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "a client may say more than there is a use for here")]
struct Create {
    #[schemars(length(min = 1))]
    key: Option<String>,
    #[schemars(length(min = 1))]
    idempotency_key: Option<String>,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1, max = 512))]
    label: Option<String>,
    #[schemars(length(min = 1, max = 500))]
    display_name: Option<String>,
    #[schemars(length(min = 1, max = 512))]
    category: Option<String>,
    #[schemars(length(min = 1))]
    model: Option<String>,
    #[schemars(length(min = 1))]
    context_window: Option<String>,
    #[schemars(length(min = 1))]
    thinking_level: Option<String>,
    fast_mode: Option<Value>,
    #[schemars(extend("enum" = ["read-only", "guarded", "workspace", "full"]))]
    permission_mode: Option<String>,
    tool_overrides: Option<Map<String, Value>>,
    incognito: Option<bool>,
    #[schemars(extend("enum" = ["shared", "read-only", "suggest", "draft"]))]
    visibility: Option<String>,
    #[schemars(length(min = 1))]
    catalog_id: Option<String>,
    #[schemars(length(min = 1))]
    parent_session_key: Option<String>,
    #[schemars(range(min = 1))]
    spawn_depth: Option<u64>,
    fork: Option<bool>,
    #[schemars(extend("enum" = ["last-completed"]))]
    fork_from: Option<String>,
    emit_command_hooks: Option<bool>,
    succeeds_parent: Option<bool>,
    task: Option<String>,
    message: Option<String>,
    attachments: Option<Vec<Value>>,
    #[schemars(length(min = 1))]
    project_id: Option<String>,
    #[schemars(length(min = 1))]
    project_git_url: Option<String>,
    worktree: Option<bool>,
    #[schemars(length(min = 1))]
    worktree_base_ref: Option<String>,
    worktree_name: Option<String>,
    #[schemars(length(min = 1))]
    exec_node: Option<String>,
    #[schemars(length(min = 1))]
    cwd: Option<String>,
}

static CREATE: LazyLock<Shape> = LazyLock::new(Shape::of::<Create>);

/// `sessions.create {key?, idempotencyKey?, message?, …}` → `{ok, key, sessionId, entry, runStarted, runId?, status?, runError?}`.
/// A session that is there already is answered as it is. What is said in it at once is said to its agent.
pub(crate) fn create(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    // The original LeanClaw calls the label a name.
    let aliases = [KEY_ALIASES, &[("name", "label")]].concat();
    let create: Create = call.read(&CREATE, &aliases)?;
    let full = create.permission_mode.as_deref() == Some("full") || create.incognito == Some(true);
    call.require(if full { ADMIN } else { WRITE })?;
    create.refuse_what_is_not_there()?;
    let (key, settings) = (create.key(call.session)?, create.settings());
    let turn = create.turn(&key)?.map(|turn| Turn { begun: Some(Begun::by(call.session)), ..turn });
    Ok(call.later(move |state, session| async move {
        let (now_ms, version, own) = (state.now_ms(), session.version, key.clone());
        let decide = move |row| {
            if let Some(row) = row {
                return Ok((SessionChange::Nothing, (row, false)));
            }
            let mut row = fresh(&own, now_ms);
            apply(&mut row, &own, &settings, version, now_ms)?;
            Ok((SessionChange::Put(row.clone()), (row, true)))
        };
        let (row, new) = change(&state, &session, &key, decide).await?;
        if new {
            state.session_changed(&row.key, "create", Some(&row));
        }
        let made = json!({"ok": true, "key": row.key, "sessionId": row.session_id, "entry": entry(&row, version)});
        let Some(turn) = turn else {
            return Ok(Payload::json(&joined(made, [("runStarted", json!(false))])));
        };
        let run_id = turn.run_id.clone();
        Ok(Payload::json(&match turn.take(&state, &*session).await {
            Ok(taken) => {
                let run = [("runId", json!(run_id)), ("status", json!(taken.status())), ("runStarted", json!(true))];
                joined(made, run)
            }
            // The session is there all the same.
            Err(error) => joined(made, [("runStarted", json!(false)), ("runError", json!(error))]),
        }))
    }))
}

impl Create {
    /// A client that asks for more than a session must not believe it got it.
    fn refuse_what_is_not_there(&self) -> Result<(), ErrorShape> {
        let asked = [
            ("incognito", self.incognito == Some(true)),
            ("catalogId", self.catalog_id.is_some()),
            ("fork", self.fork == Some(true) || self.fork_from.is_some()),
            ("projectId", self.project_id.is_some()),
            ("projectGitUrl", self.project_git_url.is_some()),
            (
                "worktree",
                self.worktree == Some(true) || self.worktree_base_ref.is_some() || self.worktree_name.is_some(),
            ),
            ("cwd", self.cwd.is_some()),
            ("visibility", self.visibility.as_deref().is_some_and(|visibility| visibility != "shared")),
            ("succeedsParent", self.succeeds_parent == Some(true)),
        ];
        match asked.iter().find(|(_, asked)| *asked) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("sessions.create cannot do `{name}` here; leave it out to make a plain session");
                Err(ErrorShape::invalid(message))
            }
        }
    }

    /// The key that was named, or a new one. The same idempotency key of the same caller always makes the same one, so a
    /// call that is repeated finds what the first one made, also after a restart.
    fn key(&self, session: &Session) -> Result<Key, ErrorShape> {
        if let Some(key) = &self.key {
            return Key::read(key, self.agent_id.as_deref());
        }
        let name = match &self.idempotency_key {
            None => uuid::Uuid::new_v4(),
            Some(own) => {
                let caller = format!("{}:{}", session.caller.kind, session.caller.id);
                let digest = Sha256::new().chain_update(caller).chain_update([0]).chain_update(own).finalize();
                let mut bytes = [0; 16];
                bytes.iter_mut().zip(digest).for_each(|(byte, hashed)| *byte = hashed);
                uuid::Builder::from_custom_bytes(bytes).into_uuid()
            }
        };
        let agent = self.agent_id.as_deref().map(agent_id).transpose()?;
        Key::read(&format!("dashboard:{name}"), agent.as_deref())
    }

    /// What is said in it at once. The same idempotency key says it once.
    fn turn(&self, key: &Key) -> Result<Option<Turn>, ErrorShape> {
        let images = pictures(self.attachments.as_deref().unwrap_or_default())?;
        let said = self.message.as_ref().or(self.task.as_ref()).cloned().unwrap_or_default();
        if said.trim().is_empty() && images.is_empty() {
            return Ok(None);
        }
        check_message(&said, !images.is_empty())?;
        let own = self.idempotency_key.as_ref().map(|own| format!("{}:{own}", key.text));
        let run_id = own.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        Ok(Some(Turn { images, ..Turn::plain(run_id, key.clone(), said) }))
    }

    /// What is set from the start, as `sessions.patch` would set it.
    fn settings(&self) -> Map<String, Value> {
        let texts = [
            ("label", &self.label),
            ("displayName", &self.display_name),
            ("category", &self.category),
            ("model", &self.model),
            ("contextWindow", &self.context_window),
            ("thinkingLevel", &self.thinking_level),
            ("permissionMode", &self.permission_mode),
            ("parentSessionKey", &self.parent_session_key),
            ("execNode", &self.exec_node),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?))));
        let mut settings: Map<String, Value> = texts.collect();
        settings.extend(self.fast_mode.clone().map(|mode| ("fastMode".to_owned(), mode)));
        settings.extend(self.tool_overrides.clone().map(|tools| ("toolOverrides".to_owned(), Value::Object(tools))));
        settings
    }
}
