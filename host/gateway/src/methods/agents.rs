//! `agents.*` and `agent.identity.get`: who the agents are, and the files that tell them what they should know.

use std::future::Future;
use std::sync::{Arc, LazyLock};

use leanclaw_types::audit::AuditEvent;
use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::text::shown;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::agents::{self, Agent, By, Wish};
use crate::connection::{Answer, Call};
use crate::error::unavailable;
use crate::gateway::State;
use crate::phrase::{Shape, no_nulls};
use crate::snapshot::DEFAULT_AGENT;
use crate::wire::{Payload, joined};
use crate::workspace::{FILES, Found, Workspace, WorkspaceError};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Identity {
    #[serde(default)]
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[serde(default)]
    session_key: Option<String>,
}

/// Every workspace lies in the data directory, and the answer says where: `workspace` can only be that.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Create {
    #[schemars(length(min = 1))]
    name: String,
    #[serde(default)]
    #[schemars(length(min = 1))]
    workspace: Option<String>,
    #[serde(default)]
    #[schemars(length(min = 1))]
    model: Option<String>,
    #[serde(default)]
    emoji: Option<String>,
    #[serde(default)]
    avatar: Option<String>,
}

/// `workspace` as in [`Create`]; a `model` of null takes the agent's own away.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Update {
    #[schemars(length(min = 1))]
    agent_id: String,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    name: Option<String>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    workspace: Option<String>,
    #[serde(default, deserialize_with = "given")]
    model: Option<Option<String>>,
    #[serde(default)]
    #[schemars(with = "String")]
    emoji: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    avatar: Option<String>,
}

/// Tells null from absent.
fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Delete {
    #[schemars(length(min = 1))]
    agent_id: String,
    #[serde(default)]
    delete_files: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Which {
    #[schemars(length(min = 1))]
    agent_id: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Name {
    #[schemars(length(min = 1))]
    agent_id: String,
    #[schemars(length(min = 1))]
    name: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Text {
    #[schemars(length(min = 1))]
    agent_id: String,
    #[schemars(length(min = 1))]
    name: String,
    content: String,
}

static IDENTITY: LazyLock<Shape> = LazyLock::new(Shape::of::<Identity>);
static CREATE: LazyLock<Shape> = LazyLock::new(Shape::of::<Create>);
static UPDATE: LazyLock<Shape> = LazyLock::new(Shape::of::<Update>);
static DELETE: LazyLock<Shape> = LazyLock::new(Shape::of::<Delete>);
static WHICH: LazyLock<Shape> = LazyLock::new(Shape::of::<Which>);
static NAME: LazyLock<Shape> = LazyLock::new(Shape::of::<Name>);
static TEXT: LazyLock<Shape> = LazyLock::new(Shape::of::<Text>);

/// `agents.list {}` → `{defaultId, mainKey, scope, agents}`, `main` first.
pub(crate) fn list(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    let rows: Vec<Value> = call.state.agents.all().iter().map(|(id, agent)| row(call, id, agent)).collect();
    let list = json!({"defaultId": DEFAULT_AGENT, "mainKey": "main", "scope": "per-sender"});
    let newest = [("ownership", json!("sole")), ("selectionRequired", json!(false))];
    let newest = newest.into_iter().filter(|_| call.session.version.is_newest());
    Ok(Answer::json(&joined(list, newest.chain([("agents", json!(rows))]))))
}

fn row(call: &Call<'_>, id: &str, agent: &Agent) -> Value {
    let mut row = Map::new();
    row.insert("id".into(), json!(id));
    if let Some(name) = &agent.name {
        row.insert("name".into(), json!(name));
    }
    if let Some(identity) = agent.identity() {
        row.insert("identity".into(), identity);
    }
    if call.session.version.is_newest() {
        row.insert("kind".into(), json!("agent"));
        if agent.created_at_ms > 0 {
            row.insert("createdVia".into(), json!("operator"));
            row.insert("createdAt".into(), json!(agent.created_at_ms));
        }
        if let Some(root) = &call.state.services.agents_dir {
            row.insert("workspace".into(), json!(Workspace::of(root, id).path()));
        }
        // An agent without one counts as one that cannot answer, and the Control UI takes no message for it.
        let default = || call.state.default_model().map(|model| format!("{}/{}", model.provider, model.id));
        if let Some(model) = agent.model.clone().or_else(default) {
            row.insert("model".into(), json!({ "primary": model }));
        }
    }
    Value::Object(row)
}

/// `agent.identity.get {agentId?, sessionKey?}` → `{agentId, name, avatar, emoji?}`.
pub(crate) fn identity(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Identity = call.read(&IDENTITY, &[])?;
    let of_session = params.session_key.as_deref().and_then(|key| key.strip_prefix("agent:")?.split(':').next());
    let wanted = params.agent_id.as_deref().or(of_session).unwrap_or(DEFAULT_AGENT);
    let Some(agent) = call.state.agents.get(wanted) else {
        return Err(agents::unknown(call.session.version, wanted));
    };
    let mut identity = json!({"agentId": wanted, "name": agent.name.as_deref().unwrap_or("Assistant")});
    if let Some(identity) = identity.as_object_mut() {
        if call.session.version.is_newest() {
            let source = if agent.name.is_some() { "config" } else { "default" };
            identity.insert("nameSource".into(), json!(source));
        }
        identity.insert("avatar".into(), json!(agent.shown_avatar()));
        if let Some(emoji) = &agent.emoji {
            identity.insert("emoji".into(), json!(emoji));
        }
    }
    Ok(Answer::json(&identity))
}

/// `agents.create {name, workspace?, model?, emoji?, avatar?}` → `{ok, agentId, name, workspace, model?}`.
pub(crate) fn create(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Create = call.read(&CREATE, &[])?;
    let Create { name, workspace, model, emoji, avatar } = params;
    Ok(later(call, |state, by| async move {
        let root = root(&state)?;
        if let Some(id) = agents::id_of(&name) {
            check_workspace(workspace, &Workspace::of(&root, &id))?;
        }
        let (id, agent) = state.agents.create(Wish { name: Some(name), emoji, avatar, model }, &by).await?;
        state.health.outdate();
        let workspace = Workspace::of(&root, &id).path();
        let name = agent.name.unwrap_or_else(|| id.clone());
        let mut made = json!({"ok": true, "agentId": id, "name": name, "workspace": workspace});
        if let (Some(model), Some(made), ProtocolVersion::V4) = (agent.model, made.as_object_mut(), by.version) {
            made.insert("model".into(), json!(model));
        }
        Ok(made)
    }))
}

/// `agents.update {agentId, name?, workspace?, model?, emoji?, avatar?}` → `{ok, agentId}`.
pub(crate) fn update(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Update = call.read(&UPDATE, &[])?;
    let Update { agent_id, name, workspace, model, emoji, avatar } = params;
    let model = model.map(Option::unwrap_or_default);
    Ok(later(call, |state, by| async move {
        state.agents.get(&agent_id).ok_or_else(|| agents::absent(&agent_id))?;
        if workspace.is_some() {
            check_workspace(workspace, &Workspace::of(&root(&state)?, &agent_id))?;
        }
        state.agents.update(&agent_id, Wish { name, emoji, avatar, model }, &by).await?;
        Ok(json!({"ok": true, "agentId": agent_id}))
    }))
}

/// No agent works anywhere else than in its own folder of the data directory.
fn check_workspace(wanted: Option<String>, own: &Workspace) -> Result<(), ErrorShape> {
    let own = own.path();
    match wanted {
        Some(wanted) if std::path::Path::new(wanted.trim()) != own => Err(ErrorShape::invalid(format!(
            "unsupported workspace \"{}\": every agent has its own in the gateway's data directory; leave `workspace` \
                 out, or say {}",
            shown(&wanted, 200),
            own.display()
        ))),
        _ => Ok(()),
    }
}

/// `agents.delete {agentId, deleteFiles?}` → `{ok, agentId, removedBindings, removed?, failed?}`: its files are moved into
/// the bin unless `deleteFiles` is false. Its groups belong to the default agent from then on (`removedBindings` counts
/// them). Its sessions stay.
pub(crate) fn delete(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Delete = call.read(&DELETE, &[])?;
    Ok(later(call, |state, by| async move {
        let _turn = state.agent_files.lock().await;
        let unbound = state.agents.delete(&params.agent_id, &state.chat_groups, &by).await?;
        state.health.outdate();
        let mut deleted = json!({"ok": true, "agentId": params.agent_id, "removedBindings": unbound});
        let wanted = params.delete_files.unwrap_or(true);
        if let (true, Some(root)) = (wanted, state.services.agents_dir.clone()) {
            let workspace = Workspace::of(&root, &params.agent_id);
            let at_ms = by.at_ms;
            let folder = workspace.path();
            let discarded = blocking(move || workspace.discard(at_ms)).await;
            if let Err(error) = &discarded {
                let (agent, path) = (&params.agent_id, folder.display());
                tracing::warn!(agent, %path, error = error.message, "the files of a deleted agent stay where they are; an \
                    agent of that name would have them");
            }
            let (key, said) = match &discarded {
                Ok((path, true)) => ("removed", json!([{"path": path, "method": "trash"}])),
                Ok((path, false)) => ("removed", json!([{"path": path, "method": "missing"}])),
                Err(error) => ("failed", json!([{"path": folder, "reason": error.message}])),
            };
            if let (Some(deleted), ProtocolVersion::V4) = (deleted.as_object_mut(), by.version) {
                deleted.insert(key.into(), said);
            }
        }
        Ok(deleted)
    }))
}

/// `agents.files.list {agentId}` → `{agentId, workspace, files}`.
pub(crate) fn files(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let which: Which = call.read(&WHICH, &[])?;
    Ok(later(call, |state, by| async move {
        let workspace = workspace(&state, by.version, &which.agent_id)?;
        let (place, version) = (workspace.path(), by.version);
        let files = blocking(move || {
            let look = |name: &&str| {
                // What cannot be read is not there for a client; the others are.
                let found = workspace.look(name).unwrap_or_else(|error| {
                    tracing::warn!(path = %workspace.path().display(), name, %error, "a file of an agent is left out");
                    None
                });
                entry(version, &workspace, name, found.as_ref())
            };
            Ok(FILES.iter().map(look).collect::<Vec<_>>())
        });
        Ok(json!({"agentId": which.agent_id, "workspace": place, "files": files.await?}))
    }))
}

/// `agents.files.get {agentId, name}` → `{agentId, workspace, file}`, with its `content` when it is there.
pub(crate) fn file(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let wanted: Name = call.read(&NAME, &[])?;
    Ok(later(call, |state, by| async move {
        let workspace = workspace(&state, by.version, &wanted.agent_id)?;
        let name = supported(&wanted.name)?;
        let (place, version) = (workspace.path(), by.version);
        let file = blocking(move || {
            let read = workspace.read(name)?;
            let mut file = entry(version, &workspace, name, read.as_ref().map(|(found, _)| found));
            if let (Some((_, content)), Some(file)) = (read, file.as_object_mut()) {
                file.insert("content".into(), json!(content));
            }
            Ok(file)
        });
        Ok(json!({"agentId": wanted.agent_id, "workspace": place, "file": file.await?}))
    }))
}

/// `agents.files.set {agentId, name, content}` → `{ok, agentId, workspace, file}`.
pub(crate) fn set(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let text: Text = call.read(&TEXT, &[])?;
    Ok(later(call, |state, by| async move {
        let Text { agent_id, name, content } = text;
        // An agent that is deleted meanwhile gets no file any more.
        let _turn = state.agent_files.lock().await;
        let workspace = workspace(&state, by.version, &agent_id)?;
        let name = supported(&name)?;
        let (place, version) = (workspace.path(), by.version);
        let file = blocking(move || {
            let found = workspace.write(name, &content)?;
            let mut file = entry(version, &workspace, name, Some(&found));
            if let Some(file) = file.as_object_mut() {
                file.insert("content".into(), json!(content));
            }
            Ok(file)
        });
        let file = file.await?;
        let event = AuditEvent::AgentChanged {
            agent: agent_id.clone(),
            action: "file-set".to_owned(),
            file: Some(name.to_owned()),
        };
        state.audit(by.actor, event);
        Ok(json!({"ok": true, "agentId": agent_id, "workspace": place, "file": file}))
    }))
}

/// A file as it is listed. In version 4 it is said whether one that is missing is expected.
fn entry(version: ProtocolVersion, workspace: &Workspace, name: &str, found: Option<&Found>) -> Value {
    let mut entry = json!({"name": name, "path": workspace.path().join(name), "missing": found.is_none()});
    if let Some(entry) = entry.as_object_mut() {
        match found {
            Some(found) => {
                entry.insert("size".into(), json!(found.bytes));
                entry.insert("updatedAtMs".into(), json!(found.changed_at_ms));
            }
            None if version.is_newest() => {
                entry.insert("expectedAbsent".into(), json!(name != "AGENTS.md"));
            }
            None => {}
        }
    }
    entry
}

/// One of the files there may be. Anything else would be a way to other files.
fn supported(name: &str) -> Result<&'static str, ErrorShape> {
    let found = FILES.into_iter().find(|known| *known == name);
    found.ok_or_else(|| {
        let error = ErrorShape::invalid(format!("unsupported file \"{}\"", shown(name, 80)));
        error.hint(format!("there are: {}; agents.workspace.get reads others", FILES.join(", ")))
    })
}

fn root(state: &State) -> Result<std::path::PathBuf, ErrorShape> {
    let missing =
        || unavailable("this gateway has no folder for agents").hint("it was opened without `Services::agents_dir`");
    state.services.agents_dir.clone().ok_or_else(missing)
}

/// The workspace of an agent that there is.
pub(super) fn workspace(state: &State, version: ProtocolVersion, agent: &str) -> Result<Workspace, ErrorShape> {
    state.agents.get(agent).ok_or_else(|| agents::unknown(version, agent))?;
    Ok(Workspace::of(&root(state)?, agent))
}

/// Runs what waits for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WorkspaceError> + Send + 'static,
) -> Result<T, ErrorShape> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| {
            if error.may_pass() { unavailable(&error.to_string()) } else { ErrorShape::invalid(error.to_string()) }
        }),
        Err(_) => Err(unavailable("the file could not be reached")),
    }
}

/// Runs what takes a while.
pub(super) fn later<F>(call: &Call<'_>, work: impl FnOnce(Arc<State>, By) -> F) -> Answer
where
    F: Future<Output = Result<Value, ErrorShape>> + Send + 'static,
{
    let work = work(Arc::clone(call.state), By::caller(call));
    Answer::Later(Box::pin(async move { work.await.map(|value| Payload::json(&value)) }))
}
