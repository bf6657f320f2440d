//! What the page asks for beside its files: how it is to be shown, and pictures of agents.

use http::{HeaderValue, Request, StatusCode, header};
use serde_json::{Value, json};

use super::super::is_trusted;
use super::Reply;
use crate::gateway::State;
use crate::sessions::agent_id;
use crate::snapshot::DEFAULT_AGENT;
use crate::web::reply::{self, json_reply};
use crate::wire::joined;

/// A document.
pub(super) enum Document<'a> {
    /// How the page is to be shown, for builds of version 3, which show no credential for it.
    OpenSettings,
    /// How the page is to be shown.
    Settings,
    /// The picture of that agent.
    Avatar(&'a str),
}

/// The document of that path.
pub(super) fn named(path: &str) -> Option<Document<'_>> {
    match path {
        "/__openclaw/control-ui-config.json" => Some(Document::OpenSettings),
        "/control-ui-config.json" | "/__openclaw__/control-ui-config.json" => Some(Document::Settings),
        _ => path.strip_prefix("/avatar/").map(Document::Avatar),
    }
}

impl Document<'_> {
    pub(super) fn answer(&self, state: &State, request: &Request<()>) -> Reply {
        match self {
            Self::OpenSettings if may_know(state, request).is_err() => revalidated(basics(state, false)),
            Self::OpenSettings => revalidated(everything(state)),
            Self::Settings => match may_know(state, request) {
                Ok(()) => revalidated(everything(state)),
                Err(refusal) => *refusal,
            },
            Self::Avatar(agent) => avatar(agent, state, request),
        }
    }
}

/// Callers on this machine may know how the page is to be shown, pages included: another page cannot read the answer.
fn may_know(state: &State, request: &Request<()>) -> Result<(), Box<Reply>> {
    is_trusted(state, request, |peer| peer.direct_loopback)
}

fn revalidated(body: Value) -> Reply {
    let mut reply = json_reply(StatusCode::OK, &body);
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

/// What version 3 reads. Strangers are not told which program this is.
fn basics(state: &State, trusted: bool) -> Value {
    let agent = state.agents.get(DEFAULT_AGENT).unwrap_or_default();
    let basics = json!({
        "basePath": state.live.now().control_ui.base_path,
        "assistantName": agent.name.as_deref().unwrap_or("Assistant"),
        "assistantAvatar": agent.shown_avatar(),
        "assistantAgentId": DEFAULT_AGENT,
    });
    joined(basics, trusted.then(|| ("serverVersion", json!(state.config.version))))
}

/// What version 4 reads. There is no build to name: the page would insist on being of the same.
fn everything(state: &State) -> Value {
    let nulls = ["assistantAvatarSource", "assistantAvatarStatus", "assistantAvatarReason"];
    let off = [
        "allowExternalEmbedUrls",
        "automaticallyFetchFavicons",
        "communityInvite",
        "terminalEnabled",
        "cliAgentsEnabled",
    ];
    let more =
        [("embedSandbox", json!("strict")), ("pluginAssetsRequireAuth", json!(true)), ("pluginFrameGrants", json!([]))];
    let settings = joined(basics(state, true), nulls.map(|name| (name, Value::Null)));
    joined(settings, off.map(|name| (name, json!(false))).into_iter().chain(more))
}

/// `/avatar/<agent>?meta=1`: the agent's picture, where it is one that stands in its address. The page loads none from
/// elsewhere, and the gateway fetches none.
fn avatar(agent: &str, state: &State, request: &Request<()>) -> Reply {
    let meta = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "meta=1"));
    if !meta {
        return reply::not_found();
    }
    // Asked first: a stranger does not learn which agents there are.
    if let Err(refusal) = may_know(state, request) {
        return *refusal;
    }
    let Some(agent) = agent_id(agent).ok().and_then(|id| state.agents.get(&id)) else { return reply::not_found() };
    let picture = agent.avatar.as_deref().filter(|avatar| avatar.starts_with("data:image/"));
    let (status, reason) = if picture.is_some() { ("data", None) } else { ("none", Some("missing")) };
    revalidated(json!({"avatarUrl": picture, "avatarSource": null, "avatarStatus": status, "avatarReason": reason}))
}
