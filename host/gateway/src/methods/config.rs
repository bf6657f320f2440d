//! `config.*`: reading and changing the configuration file.
//!
//! Reading shows no secret. Writing needs the hash of what was read, checks the whole before anything is stored, and says
//! what counts at once and what only after a start.

mod tree;

use std::sync::{Arc, LazyLock};

use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::READ;
use crate::connection::{Answer, Call, Outcome};
use crate::digest::sha256;
use crate::error::{failure_to_error, unavailable};
use crate::gateway::State;
use crate::handshake::Session;
use crate::hub::Event;
use crate::phrase::Shape;
use crate::settings::{
    CheckedSettings, OutrankedKey, Reload, SENTINEL, Settings, SettingsIssue, changed_keys, is_or_is_below, is_touched,
    merge, redacted, redacted_text, restored, settings_refusal, settings_text,
};
use crate::wire::Payload;

pub(crate) use tree::{lookup, schema};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Write {
    #[schemars(length(min = 1))]
    raw: String,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    base_hash: Option<String>,
}

/// What clients send with a patch. There is no chat that could be told of a restart, so all but the text, the hash and
/// `replacePaths` is accepted and changes nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "part of the shape")]
struct Patch {
    #[schemars(length(min = 1))]
    raw: String,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    base_hash: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    session_key: Option<String>,
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, Value>")]
    delivery_context: Option<Value>,
    #[serde(default)]
    #[schemars(with = "String")]
    note: Option<String>,
    #[serde(default)]
    #[schemars(with = "u64")]
    restart_delay_ms: Option<u64>,
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(max = 256))]
    replace_paths: Option<Vec<String>>,
}

static WRITE: LazyLock<Shape> = LazyLock::new(Shape::of::<Write>);
static PATCH: LazyLock<Shape> = LazyLock::new(Shape::of::<Patch>);

/// How a text becomes the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Set,
    Apply,
    Patch,
    /// A patch of keys that a method knows, whatever else is there.
    Lay,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Apply => "apply",
            Self::Patch | Self::Lay => "patch",
        }
    }
}

/// A wish to change the file.
struct Wish {
    how: How,
    raw: String,
    base_hash: Option<String>,
    replace: Vec<String>,
}

/// `config.get {}` → the file, without its secrets.
pub(crate) fn get(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    with_settings(call, |state, session, settings| async move {
        let version = session.version;
        let text = load(&settings, version).await?;
        Ok(Payload::json(&shown(&state, version, &settings, text.as_deref())))
    })
}

/// `config.set {raw, baseHash?}` → `{ok, path, config, hash, restart}`.
pub(crate) fn set(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let Write { raw, base_hash } = call.read(&WRITE, &[])?;
    write(call, Wish { how: How::Set, raw, base_hash, replace: Vec::new() })
}

/// `config.apply {raw, baseHash?, …}`: as `config.set`.
pub(crate) fn apply(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let Patch { raw, base_hash, .. } = call.read(&PATCH, &[])?;
    write(call, Wish { how: How::Apply, raw, base_hash, replace: Vec::new() })
}

/// `config.patch {raw, baseHash?, replacePaths?, …}`: a merge patch over what is there.
pub(crate) fn patch(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let Patch { raw, base_hash, replace_paths, .. } = call.read(&PATCH, &[])?;
    write(call, Wish { how: How::Patch, raw, base_hash, replace: replace_paths.unwrap_or_default() })
}

fn with_settings<F: Future<Output = Outcome> + Send + 'static>(
    call: &Call<'_>,
    work: impl FnOnce(Arc<State>, Arc<Session>, Arc<dyn Settings>) -> F,
) -> Result<Answer, ErrorShape> {
    let settings = call.state.services.settings.clone().ok_or_else(no_settings)?;
    Ok(call.later(|state, session| work(state, session, settings)))
}

fn no_settings() -> ErrorShape {
    unavailable("this program has no configuration file").hint(
        "it opened its gateway without `Services::settings`; set it up where it takes its settings from and start it again",
    )
}

async fn load(settings: &Arc<dyn Settings>, version: ProtocolVersion) -> Result<Option<String>, ErrorShape> {
    let settings = Arc::clone(settings);
    let loaded = tokio::task::spawn_blocking(move || settings.load()).await;
    let loaded = loaded.map_err(|error| unavailable(&format!("the configuration cannot be read: {error}")))?;
    loaded.map_err(|failure| failure_to_error(version, &failure))
}

/// What clients call the content of the file by.
fn hash(state: &State, version: ProtocolVersion, text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    match version {
        ProtocolVersion::V3 => sha256(text.as_bytes()),
        // A plain hash of a short file could be used to guess a secret in it.
        ProtocolVersion::V4 => format!("hmac-sha256:v1:{}", state.keys.revision(text)),
    }
}

fn shown(state: &State, version: ProtocolVersion, settings: &Arc<dyn Settings>, text: Option<&str>) -> Value {
    let checked = settings.check(text.unwrap_or("{}"));
    let mut secrets = Vec::new();
    let parsed = redacted(settings, &checked.parsed, "", &mut secrets);
    let resolved = redacted(settings, &checked.resolved, "", &mut Vec::new());
    // A text that is no JSON5 may hold a secret anywhere.
    let raw = text.filter(|_| checked.syntax.is_none());
    let raw = raw.map(|text| redacted_text(text, &parsed, &secrets, |text| settings.check(text).parsed));
    let raw = match version {
        ProtocolVersion::V3 => json!(raw.unwrap_or_default()),
        ProtocolVersion::V4 => json!(raw),
    };
    let hash = hash(state, version, text);
    let mut shown = json!({
        "path": settings.path(), "exists": text.is_some(), "raw": raw, "parsed": parsed, "resolved": resolved,
        "valid": checked.issues.is_empty(), "config": parsed, "hash": hash, "issues": issues(&checked.issues),
        "warnings": issues(&[checked.covered, checked.warnings].concat()), "legacyIssues": [],
    });
    if version.is_newest()
        && let Some(object) = shown.as_object_mut()
    {
        object.insert("configRevisionHash".into(), json!(hash));
        object.insert("sourceConfig".into(), parsed);
        object.insert("includedPaths".into(), json!([]));
    }
    shown
}

fn issues(issues: &[SettingsIssue]) -> Value {
    let shown = |issue: &SettingsIssue| json!({"path": issue.path, "message": issue.message});
    Value::Array(issues.iter().map(shown).collect())
}

fn write(call: &Call<'_>, wish: Wish) -> Result<Answer, ErrorShape> {
    with_settings(call, |state, session, settings| async move {
        let plan = store(&state, &session, &settings, &wish).await?;
        Ok(Payload::json(&answer(&state, session.version, &settings, &wish, &plan)))
    })
}

/// Lays a patch over the file, for a method that knows which keys it changes, and applies it.
///
/// # Errors
/// There is no file, it cannot be written, or the result would be wrong.
pub(super) async fn lay_over(state: &State, session: &Session, patch: &Value) -> Result<(), ErrorShape> {
    let settings = state.services.settings.clone().ok_or_else(no_settings)?;
    let (how, raw) = (How::Lay, patch.to_string());
    let wish = Wish { how, raw, base_hash: None, replace: Vec::new() };
    store(state, session, &settings, &wish).await.map(drop)
}

/// What the configuration says at this path; none when it says nothing, or there is no file of it.
///
/// # Errors
/// The file cannot be read.
pub(super) async fn said(state: &State, session: &Session, path: &[&str]) -> Result<Option<Value>, ErrorShape> {
    let Some(settings) = state.services.settings.clone() else { return Ok(None) };
    let text = load(&settings, session.version).await?;
    let all = settings.check(text.as_deref().unwrap_or("{}")).resolved;
    Ok(path.iter().try_fold(&all, |at, name| at.get(name)).cloned())
}

/// Carries out a wish; gives what was stored.
async fn store(
    state: &State,
    session: &Session,
    settings: &Arc<dyn Settings>,
    wish: &Wish,
) -> Result<Plan, ErrorShape> {
    // One writer at a time: what a hash was checked against is still there when the file is replaced.
    let turn = state.settings_turn.lock().await;
    let version = session.version;
    let before = load(settings, version).await?;
    let mut plan = plan(state, version, settings, before.as_deref(), wish)?;
    if wish.how == How::Lay && plan.changed.is_empty() {
        return Ok(plan);
    }
    let (file, text) = (Arc::clone(settings), plan.text.clone());
    let stored = tokio::task::spawn_blocking(move || file.store(&text)).await;
    let stored = stored.map_err(|error| unavailable(&format!("the configuration cannot be written: {error}")))?;
    stored.map_err(|failure| failure_to_error(version, &failure))?;
    if let Some(live) = settings.live(&plan.text) {
        plan.live = state.go_by(live, session).into_iter().map(str::to_owned).collect();
    }
    plan.live.extend(settings.go_by(&plan.text));
    note(state, session, settings, wish, &plan).await;
    drop(turn);
    settings.apply(&session.caller, &plan.live).await;
    // What follows waits for nothing before it answers.
    state.look_again_at(session);
    Ok(plan)
}

/// What will be stored.
struct Plan {
    text: String,
    parsed: Value,
    /// Keys at which it differs from what was stored.
    changed: Vec<String>,
    /// Of these, the ones that count for nothing here.
    outranked: Vec<OutrankedKey>,
    /// Keys that count otherwise than before.
    live: Vec<String>,
}

impl Plan {
    /// Of the keys that count otherwise now, those that it does not change itself.
    fn edited(&self) -> Vec<String> {
        self.live.iter().filter(|live| !is_touched(live, &self.changed)).cloned().collect()
    }
}

fn plan(
    state: &State,
    version: ProtocolVersion,
    settings: &Arc<dyn Settings>,
    before: Option<&str>,
    wish: &Wish,
) -> Result<Plan, ErrorShape> {
    let newest_patch = wish.how == How::Patch && version.is_newest();
    if !newest_patch && wish.how != How::Lay {
        check_base(state, version, before, wish, "")?;
    }
    let given = settings.check(&wish.raw);
    if let Some(message) = &given.syntax {
        return Err(ErrorShape::invalid(message.clone()));
    }
    let stored = settings.check(before.unwrap_or("{}"));
    let wanted = match wish.how {
        How::Patch | How::Lay => patched(&stored, &given, wish)?,
        How::Set | How::Apply => given.parsed.clone(),
    };
    if newest_patch {
        let touched = changed_keys(&stored.parsed, &wanted);
        check_base(state, version, before, wish, touched.first().map_or("the file", String::as_str))?;
    }
    let found = restored(&wanted, Some(&stored.parsed), Some(&stored.resolved), "");
    let unknown = found.unknown.into_iter().map(|path| SettingsIssue {
        path,
        message: format!("{SENTINEL} stands for a stored secret and there is none here; give the secret itself"),
    });
    let unknown: Vec<SettingsIssue> = unknown.collect();
    if !unknown.is_empty() {
        return Err(invalid(&unknown));
    }
    let parsed = found.value.unwrap_or_else(|| json!({}));
    // The text as it was written keeps its comments, where nothing had to be put into it.
    let text = if parsed == given.parsed && matches!(wish.how, How::Set | How::Apply) {
        wish.raw.clone()
    } else {
        settings_text(&parsed)
    };
    let checked = settings.check(&text);
    let changed = changed_keys(&stored.parsed, &parsed);
    let wrong = checked.newly_wrong(&changed);
    if !wrong.is_empty() {
        return Err(invalid(&wrong));
    }
    let outranked = checked.outranked_at(&changed);
    Ok(Plan { text, parsed, changed, outranked, live: Vec::new() })
}

fn patched(stored: &CheckedSettings, given: &CheckedSettings, wish: &Wish) -> Result<Value, ErrorShape> {
    if !given.parsed.is_object() {
        return Err(ErrorShape::invalid("config.patch raw must be an object"));
    }
    if let Some(message) = &stored.syntax {
        return Err(ErrorShape::invalid(format!("the stored configuration must be repaired first: {message}")));
    }
    let mut wanted = stored.parsed.clone();
    merge(&mut wanted, &given.parsed, "", &wish.replace);
    Ok(wanted)
}

/// Whoever writes must have read what is there. `path` is named where it is known.
fn check_base(
    state: &State,
    version: ProtocolVersion,
    before: Option<&str>,
    wish: &Wish,
    path: &str,
) -> Result<(), ErrorShape> {
    let Some(before) = before else { return Ok(()) };
    let Some(given) = &wish.base_hash else {
        return Err(ErrorShape::invalid(if path.is_empty() {
            "config base hash required; re-run config.get and retry".to_owned()
        } else {
            format!("config base hash required for {path}; re-run config.get and retry with baseHash")
        }));
    };
    if *given != hash(state, version, Some(before)) {
        return Err(ErrorShape::invalid("config changed since last load; re-run config.get and retry"));
    }
    Ok(())
}

fn invalid(problems: &[SettingsIssue]) -> ErrorShape {
    ErrorShape::invalid(settings_refusal(problems)).details(json!({"issues": issues(problems)}))
}

/// Writes down that the configuration changed and tells the others.
async fn note(state: &State, session: &Session, settings: &Arc<dyn Settings>, wish: &Wish, plan: &Plan) {
    let mut events = vec![AuditEvent::ConfigChanged { action: wish.how.name().to_owned(), keys: plan.changed.clone() }];
    if !plan.live.is_empty() {
        events.push(AuditEvent::ConfigLive { keys: plan.live.clone(), edited: plan.edited() });
    }
    let (at_ms, actor) = (state.now_ms(), format!("{}:{}", session.caller.kind, session.caller.id));
    let records = events.into_iter().map(|event| AuditRecord { at_ms, actor: actor.clone(), event }).collect();
    if let Err(failure) = state.services.records.change(Vec::new(), records).await {
        tracing::error!(%failure, "that the configuration changed cannot be written to the audit log");
    }
    let payload = json!({
        "path": settings.path(), "hash": hash(state, ProtocolVersion::V4, Some(&plan.text)), "ts": state.now_ms(),
    });
    state.hub.broadcast(Event::new("config.changed", &payload.to_string()).scope(READ));
}

/// When a change counts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Restart<'a> {
    ok: bool,
    required: bool,
    /// Keys that need a start.
    keys: Vec<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// Keys that count otherwise from now on.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    live: &'a [String],
    /// Those of them that somebody had changed in the file before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    edited: Vec<String>,
    /// Keys that count neither now nor after a start like the last, with who says another value.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    outranked: &'a [OutrankedKey],
}

fn counting<'a>(settings: &Arc<dyn Settings>, plan: &'a Plan) -> Restart<'a> {
    let Plan { changed, outranked, live, .. } = plan;
    let is_outranked = |key: &str| outranked.iter().any(|outranked| is_or_is_below(key, &outranked.key));
    let waits = |key: &&String| settings.reload(key) == Reload::Restart && !is_outranked(key);
    let keys: Vec<&String> = changed.iter().filter(waits).collect();
    let required = !keys.is_empty();
    let message = required.then_some("stop LeanClaw and start it again; until then the old values count");
    Restart { ok: !required, required, keys, message, live, edited: plan.edited(), outranked }
}

fn answer(state: &State, version: ProtocolVersion, settings: &Arc<dyn Settings>, wish: &Wish, plan: &Plan) -> Value {
    let restart = counting(settings, plan);
    let mut answer = json!({
        "ok": true, "path": settings.path(), "config": redacted(settings, &plan.parsed, "", &mut Vec::new()),
        "hash": hash(state, version, Some(&plan.text)), "restart": restart,
    });
    if wish.how != How::Set
        && let Some(object) = answer.as_object_mut()
    {
        // Nothing is left for a later process to tell a chat.
        object.insert("sentinel".into(), json!({"path": null, "payload": null}));
    }
    answer
}
