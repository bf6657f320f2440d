//! Methods that answer truthfully that there is nothing of their kind, each with the reason: most are what OpenClaw's Control UI
//! and terminal of version 4 ask for as soon as they are connected or a page is opened.
//!
//! Their parameters are checked all the same, so that what a client says wrong today is not understood otherwise tomorrow.

use std::collections::HashMap;
use std::sync::LazyLock;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use serde_json::{Value, json};

use super::ADMIN;
use crate::connection::{Answer, Call};
use crate::phrase::Shape;
use crate::snapshot::DEFAULT_AGENT;
use crate::wire::joined;

/// A parameter: its name, its type, whether it must be there.
type Parameter = (&'static str, &'static str, bool);

/// A method that has nothing to tell.
struct Nothing {
    method: &'static str,
    parameters: &'static [Parameter],
    answer: fn(&Call<'_>, &Value) -> Value,
}

const AGENT: Parameter = ("agentId", "string", false);
const SESSION: Parameter = ("sessionKey", "string", true);
const OF_SESSION: Parameter = ("sessionKey", "string", false);
const LIMIT: Parameter = ("limit", "count", false);
const OFFSET: Parameter = ("offset", "number", false);
const QUERY: Parameter = ("query", "text", false);

const fn nothing(
    method: &'static str,
    parameters: &'static [Parameter],
    answer: fn(&Call<'_>, &Value) -> Value,
) -> Nothing {
    Nothing { method, parameters, answer }
}

fn number(params: &Value, name: &str, otherwise: u64) -> u64 {
    params.get(name).and_then(Value::as_u64).unwrap_or(otherwise)
}

static ALL: &[Nothing] = &[
    // No agent acts on its own, so none has asked for leave.
    nothing("openclaw.approval.list", &[], |_, _| json!([])),
    // Agents answer; none of them asks, suggests or plans anything beside that.
    nothing("question.list", &[], |_, _| json!({"questions": []})),
    nothing("taskSuggestions.list", &[AGENT, OF_SESSION], |_, _| json!({"suggestions": []})),
    nothing("progressCard.get", &[SESSION], |_, _| json!({"card": null})),
    nothing("sessions.companion.state", &[SESSION, AGENT], |_, _| json!({"exchanges": []})),
    // Nothing watches sessions on behalf of a page that is hidden, so it does not matter whether one is.
    nothing("sessions.observer.visibility", &[("visible", "boolean", true)], |_, _| json!({"ok": true})),
    // Sessions have no dashboards.
    nothing(
        "board.get",
        &[SESSION, AGENT],
        |_, params| json!({"sessionKey": params.get("sessionKey"), "revision": 0, "tabs": [], "widgets": []}),
    ),
    // Other programs' sessions are not read.
    nothing(
        "sessions.catalog.list",
        &[
            AGENT,
            ("catalogId", "string", false),
            ("cursors", "object", false),
            ("progressId", "string", false),
            ("search", "text", false),
            ("limitPerHost", "count", false),
            ("hostIds", "strings", false),
            ("allowPartialResults", "boolean", false),
        ],
        |_, _| json!({"catalogs": []}),
    ),
    // Commands are not run for jobs, so no job has a standing leave to run one.
    nothing("exec.approval.grants.list", &[LIMIT], |_, _| json!({"grants": []})),
    nothing("exec.approval.grants.revoke", &[("grantId", "string", true)], |_, _| json!({"outcome": "not-found"})),
    // Skills are plugins; there is no library of texts beside them.
    nothing("skills.library.list", &[OF_SESSION, ("scope", "string", false)], |call, _| {
        json!({
            "entries": [], "profileId": null, "multipleProfiles": false, "defaultTarget": "unavailable",
            "canManageWorkspace": call.session.caller.holds(ADMIN), "defaultSelectionLimit": 64,
        })
    }),
    // Nobody signs in to GitHub.
    nothing("tools.github.status", &[("agentId", "string", true), ("selectedScope", "string", true)], |_, params| {
        json!({
            "agentId": params.get("agentId"),
            "selectedScope": params.get("selectedScope"),
            "selected": {"scope": params.get("selectedScope"), "configured": false, "identity": null},
            "effective": {
                "source": "system-detected", "credentialKind": "native", "credentialState": "unavailable",
                "account": null, "gitAuthor": {"name": null, "email": null}, "evidence": "none",
                "accessExpiresAtMs": null, "refreshState": "not_applicable", "oauthScopes": [],
                "repositoryGrants": "unknown",
            },
        })
    }),
    // What begins with a slash is the agent's to understand; /stop, /new and /reset have methods of their own.
    nothing(
        "commands.list",
        &[
            AGENT,
            OF_SESSION,
            ("provider", "string", false),
            ("scope", "string", false),
            ("includeArgs", "boolean", false),
        ],
        |_, _| json!({"commands": []}),
    ),
    // Tasks are what agents leave running, and a run leaves nothing behind.
    nothing(
        "tasks.list",
        &[
            AGENT,
            OF_SESSION,
            // One of them or several.
            ("status", "any", false),
            LIMIT,
            ("cursor", "text", false),
            // In no schema, and yet sent by OpenClaw's page.
            ("sortBy", "string", false),
        ],
        |_, _| json!({"tasks": []}),
    ),
    // The program does not look for newer versions of itself.
    nothing(
        "update.status",
        &[("refreshCheckout", "boolean", false)],
        |_, _| json!({"sentinel": null, "updateAvailable": null}),
    ),
    // What plugins hook into is a part of them, which `plugins.inspect` shows; there are no folders with scripts.
    nothing("hooks.status", &[AGENT], |_, _| json!({"workspaceDir": "", "managedHooksDir": "", "hooks": []})),
    // Plugins bring no parts of a page.
    nothing("plugins.controlUi.list", &[], |_, _| json!({"revision": "0", "plugins": [], "diagnostics": []})),
    // There is no catalogue of plugins to look into: they are dropped into a folder.
    nothing(
        "plugins.catalog.browse",
        &[
            ("intent", "string", false),
            ("category", "string", false),
            QUERY,
            ("searchSource", "string", false),
            ("cursor", "string", false),
            ("pageSize", "count", false),
        ],
        |_, _| json!({"items": [], "categories": []}),
    ),
    nothing("plugins.catalog.categories", &[], |_, _| json!({"categories": []})),
    // There are no people with profiles of their own, so there is nobody to assign a session to or to remember a taste for.
    nothing("users.list", &[], |_, _| json!({"profiles": []})),
    nothing("users.prefs.get", &[("keys", "strings", false)], |_, _| json!({"status": "no_durable_identity"})),
    nothing("themes.list", &[], |_, _| {
        json!({
            "current": {"id": "claw", "mode": "system", "scope": "gateway", "overrides": {}},
            "theme": {"id": "claw", "label": "Claw", "source": "builtin", "modes": ["light", "dark"]},
            "themes": [],
        })
    }),
    // No git repository is worked in.
    nothing("worktrees.list", &[], |_, _| json!({"worktrees": []})),
    // Nothing waits in line: a call runs when it comes, or is refused.
    nothing("diagnostics.lanes", &[], |call, _| json!({"ts": call.state.now_ms(), "lanes": [], "dynamic": null})),
    // Nothing is remembered beside what was said in sessions.
    nothing(
        "doctor.memory.status",
        &[AGENT, ("probe", "boolean", false), ("deep", "boolean", false)],
        |call, params| {
            let agent = params.get("agentId").and_then(Value::as_str).unwrap_or(DEFAULT_AGENT);
            let embedding = json!({"ok": false, "error": "LeanClaw has no search in memories"});
            match call.session.version {
                ProtocolVersion::V3 => json!({"agentId": agent, "embedding": embedding}),
                ProtocolVersion::V4 => {
                    json!({"agentId": agent, "searchRuntimeRegistered": false, "embedding": embedding})
                }
            }
        },
    ),
    // No program of this kind is asked by agents.
    nothing(
        "webSearch.status",
        &[AGENT, ("modelProvider", "string", false), ("modelId", "string", false)],
        |_, params| {
            let agent = params.get("agentId").and_then(Value::as_str).unwrap_or(DEFAULT_AGENT);
            json!({
                "enabled": false, "provider": null, "agentId": agent,
                "model": {"provider": "", "id": "", "runtime": "unknown", "runtimeLabel": "None"},
                "providers": [],
                "route": {
                    "kind": "unavailable", "label": "Search unavailable", "testable": false,
                    "reason": "LeanClaw searches the web through plugins only.",
                },
            })
        },
    ),
    // Whoever writes to a channel is let in by its plugin, or not; nobody waits here.
    nothing("channels.pairing.list", &[("channel", "string", false), ("accountId", "string", false)], |_, _| {
        json!({
            "accounts": [], "requests": [], "commandOwnerConfigured": true,
            "limits": {"pendingPerAccount": 0, "ttlMs": 0},
        })
    }),
    // Which programs the skills of this gateway need on a node: there are no skills that need any.
    nothing("skills.bins", &[], |_, _| json!({"bins": []})),
    // There is no scheduler, so there are no jobs.
    nothing("cron.status", &[], |call, _| match call.session.version {
        ProtocolVersion::V3 => json!({"enabled": false, "storePath": "", "jobs": 0, "nextWakeAtMs": null}),
        ProtocolVersion::V4 => json!({
            "enabled": false, "storePath": "", "jobs": 0, "nextWakeAtMs": null, "triggersEnabled": false,
            "storage": "sqlite", "sqlitePath": "",
        }),
    }),
    nothing(
        "cron.list",
        &[
            AGENT,
            QUERY,
            OFFSET,
            ("limit", "page", false),
            ("includeDisabled", "boolean", false),
            ("enabled", "text", false),
            ("scheduleKind", "text", false),
            ("lastRunStatus", "text", false),
            ("trigger", "text", false),
            ("sortBy", "text", false),
            ("sortDir", "text", false),
            ("compact", "boolean", false),
            ("includeDeliveryPreviews", "boolean", false),
        ],
        |call, params| {
            let (offset, limit) = (number(params, "offset", 0), number(params, "limit", 50));
            let list = json!({
                "jobs": [], "total": 0, "offset": offset, "limit": limit, "hasMore": false, "nextOffset": null,
            });
            match call.session.version {
                ProtocolVersion::V3 => list,
                ProtocolVersion::V4 => joined(list, [("snapshotRevision", json!("0"))]),
            }
        },
    ),
    // Nor did any run.
    nothing(
        "cron.runs",
        &[
            AGENT,
            ("scope", "string", false),
            ("id", "string", false),
            ("jobId", "string", false),
            ("runId", "string", false),
            LIMIT,
            OFFSET,
            ("statuses", "strings", false),
            ("status", "string", false),
            ("deliveryStatuses", "strings", false),
            ("deliveryStatus", "string", false),
            QUERY,
            ("sortDir", "string", false),
        ],
        |_, params| {
            let (offset, limit) = (number(params, "offset", 0), number(params, "limit", 50));
            json!({
                "entries": [], "total": 0, "offset": offset, "limit": limit, "hasMore": false, "nextOffset": null,
            })
        },
    ),
];

static SHAPES: LazyLock<HashMap<&'static str, (&'static Nothing, Shape)>> =
    LazyLock::new(|| ALL.iter().map(|one| (one.method, (one, Shape::of_properties(one.parameters)))).collect());

/// Answers whichever of them is called.
pub(crate) fn answer(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let Some((own, shape)) = SHAPES.get(call.method) else { return Ok(Answer::json(&Value::Null)) };
    // OpenClaw's older clients say so when they have nothing to say.
    let params = if call.params == "null" { "{}" } else { call.params };
    let params: Value = Call { params, ..*call }.read(shape, &[])?;
    Ok(Answer::json(&(own.answer)(call, &params)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_sends_every_one_of_them_here_and_no_other() {
        let here = crate::methods::TABLE
            .iter()
            .filter(|method| std::ptr::fn_addr_eq(method.handler, answer as fn(&Call<'_>) -> _));
        let mut here: Vec<&str> = here.map(|method| method.name).collect();
        let mut own: Vec<&str> = ALL.iter().map(|one| one.method).collect();
        here.sort_unstable();
        own.sort_unstable();
        assert_eq!(here, own);
    }
}
