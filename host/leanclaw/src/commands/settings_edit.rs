//! `leanclaw config get` and `config set`: one key of the settings.
//!
//! Whose settings are meant is decided alike for both: those of the gateway that the command line names, else of the program
//! that runs with this data directory. It is asked, so that a change is checked, written down and applied in one place; where
//! none runs, the command reads and changes the file itself, by the same rules.

use std::sync::Arc;

use anyhow::Result;
use leanclaw_gateway::{
    Settings, SettingsIssue, changed_keys, merge_settings, settings_refusal, settings_text, without_secrets,
};
use leanclaw_types::audit::AuditEvent;
use serde_json::{Value, json};

use super::gateway::Which;
use super::{block_on, resolve, sources, write_down};
use crate::admin::{self, Online};
use crate::client::ClientError;
use crate::config::{self, Flags, json5_tree, variables};
use crate::locate::Named;
use crate::report::Advice;
use crate::wiring::{SettingsFile, set};
use crate::{data_dir, output};

/// Whose settings are meant.
enum Whose {
    /// A gateway's.
    Gateway(Box<Online>),
    /// Those that a program started from here, with these flags, would have: none runs.
    File(Arc<dyn Settings>, Flags),
}

async fn meant(flags: Flags, gateway: Which) -> Result<Whose> {
    let timeout = gateway.timeout().unwrap_or(admin::TIMEOUT);
    if gateway.is_named(&flags) {
        let found = gateway.find(flags)?.waiting(timeout);
        return Ok(Whose::Gateway(Box::new(Online::new(found.connect().await?))));
    }
    let named = Named::by(&flags);
    let sources = sources(flags.clone())?;
    // What is set may be what repairs the file.
    if let Ok(resolution) = config::resolve(&sources)
        && let Some(online) = admin::running_here(&resolution.config, named, timeout).await?
    {
        return Ok(Whose::Gateway(Box::new(online)));
    }
    Ok(Whose::File(Arc::new(SettingsFile::new(sources)), flags))
}

/// Prints what is in effect at a key of the configuration file or for a variable.
pub(crate) fn get(flags: Flags, gateway: Which, key: &str, as_json: bool) -> Result<()> {
    let shown = block_on(async {
        match meant(flags, gateway).await? {
            Whose::Gateway(mut online) => in_effect(&online.call("config.get", json!({})).await?),
            Whose::File(settings, _) => {
                let text = settings.load()?;
                let checked = settings.check(text.as_deref().unwrap_or("{}"));
                let hint = "`leanclaw config check` names everything that is wrong";
                is_usable(&settings.path(), &checked.issues, hint)?;
                Ok(without_secrets(&settings, &checked.resolved))
            }
        }
    })?;
    let path = file_key(key);
    let found = path.split('.').try_fold(&shown, |value, part| value.get(part));
    match (found, as_json) {
        (Some(value), true) => output::json(&json!({ "key": path, "value": value })),
        (Some(Value::String(text)), false) => output::text(text),
        (Some(value), false) => output::json(value),
        (None, _) => Err(Advice::new(format!("nothing is set at `{key}` and it has no default"))
            .hint("`leanclaw config variables` lists every setting and its keys")
            .into()),
    }
}

/// What is in effect at a gateway, by its answer to `config.get`.
fn in_effect(file: &Value) -> Result<Value> {
    let issue = |issue| SettingsIssue { path: text(issue, "path").into(), message: text(issue, "message").into() };
    let issues: Vec<SettingsIssue> = list(file, "issues").map(issue).collect();
    let hint = "it is the file of the gateway that was asked, which goes on with what it read before: repair it there; \
                `leanclaw call config.get` with the same --url and --token shows it";
    is_usable(text(file, "path"), &issues, hint)?;
    Ok(file.get("resolved").cloned().unwrap_or_default())
}

fn is_usable(file: &str, issues: &[SettingsIssue], hint: &str) -> Result<()> {
    if issues.is_empty() {
        return Ok(());
    }
    let issues: Vec<String> = issues.iter().map(SettingsIssue::to_string).collect();
    Err(Advice::new(format!("{file} is not valid: {}", issues.join("; "))).hint(hint).into())
}

/// What became of a change.
struct Done {
    /// `{path, restart, …}`, as `config.patch` answers.
    answer: Value,
    /// Where it says that a key does not count.
    place: &'static str,
    /// What is to be looked at, among it what does nothing.
    warnings: Vec<String>,
}

/// Sets a key of the configuration file; `null` takes it out.
pub(crate) fn put(flags: Flags, gateway: Which, key: &str, value: &str, as_json: bool) -> Result<()> {
    let path = file_key(key);
    // What is no JSON5 is meant as a text.
    let value = json5_tree::parse(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    let mut patch = json!({});
    set(&mut patch, path, value);
    let Done { answer, place, warnings } = block_on(async {
        match meant(flags, gateway).await? {
            Whose::Gateway(mut online) => through(&mut online, &patch).await,
            Whose::File(settings, flags) => {
                let (done, changed) = directly(&settings, &patch)?;
                // It is set; that it cannot be written down is no reason to call it failed.
                if let Err(error) = note_change(flags, changed).await {
                    output::warning(&format!("{path} is set, but the audit log cannot tell of it: {error:#}"));
                }
                Ok(done)
            }
        }
    })?;
    if as_json {
        return output::json(&answer);
    }
    let restart = answer.get("restart").unwrap_or(&Value::Null);
    output::text(&format!("{path} is set in {}.", text(&answer, "path")))?;
    let named = [format!("`{path}`"), format!("`{path}.")];
    let is_about_it = |warning: &&String| named.iter().any(|name| warning.contains(name));
    warnings.iter().filter(is_about_it).for_each(|warning| output::warning(warning));
    notes(restart, place).iter().for_each(|note| output::note(note));
    Ok(())
}

/// When a change counts, for a person.
fn notes(restart: &Value, place: &str) -> Vec<String> {
    let outranked = list(restart, "outranked").map(|outranked| {
        let (key, variable, source) = (text(outranked, "key"), text(outranked, "variable"), text(outranked, "source"));
        format!("{key} does not count {place}, where {variable} comes from elsewhere ({source})")
    });
    let mut notes: Vec<String> = outranked.collect();
    if restart.get("required") == Some(&Value::Bool(true)) {
        notes.push("it counts once LeanClaw is started again".to_owned());
    }
    let edited: Vec<&str> = list(restart, "edited").filter_map(Value::as_str).collect();
    if !edited.is_empty() {
        notes.push(format!("what was changed in the file before counts from now on, too: {}", edited.join(", ")));
    }
    notes
}

async fn through(online: &mut Online, patch: &Value) -> Result<Done> {
    let file = online.call("config.get", json!({})).await?;
    let mut params = json!({ "raw": patch.to_string() });
    if let (Some(hash), Some(params)) = (file.get("hash"), params.as_object_mut()) {
        params.insert("baseHash".into(), hash.clone());
    }
    let answer = online.call("config.patch", params).await.map_err(|error| {
        let refusal = error.downcast_ref::<ClientError>().and_then(ClientError::refusal);
        match refusal.filter(|refusal| refusal.message.starts_with("invalid config: ")) {
            Some(refusal) => refused(&refusal.message).into(),
            None => error,
        }
    })?;
    // It is set; what there is to be said besides is not worth a failure.
    let file = online.call("config.get", json!({})).await.unwrap_or_default();
    let warnings = list(&file, "warnings").map(|warning| text(warning, "message").to_owned()).collect();
    Ok(Done { answer, place: "in the program that runs", warnings })
}

/// Changes the file; gives the keys that changed, too.
fn directly(settings: &Arc<dyn Settings>, patch: &Value) -> Result<(Done, Vec<String>)> {
    let stored = settings.load()?;
    let before = settings.check(stored.as_deref().unwrap_or("{}"));
    if let Some(message) = before.syntax {
        return Err(Advice::new(format!("{} cannot be changed: {message}", settings.path()))
            .hint("repair the file with an editor first")
            .into());
    }
    let mut wanted = before.parsed.clone();
    merge_settings(&mut wanted, patch);
    let changed = changed_keys(&before.parsed, &wanted);
    let text = settings_text(&wanted);
    let checked = settings.check(&text);
    let wrong = checked.newly_wrong(&changed);
    if !wrong.is_empty() {
        return Err(refused(&settings_refusal(&wrong)).into());
    }
    settings.store(&text)?;
    let restart = json!({ "outranked": checked.outranked_at(&changed) });
    let config = without_secrets(settings, &checked.parsed);
    let done = Done {
        answer: json!({ "ok": true, "path": settings.path(), "config": config, "restart": restart }),
        place: "in a program that is started from here",
        warnings: checked.warnings.into_iter().map(|warning| warning.message).collect(),
    };
    Ok((done, changed))
}

/// The audit log of the data directory that counts now tells of the change, as the program would have.
async fn note_change(flags: Flags, keys: Vec<String>) -> Result<()> {
    let data_dir = resolve(flags)?.config.data_dir;
    data_dir::prepare(&data_dir)?;
    write_down(&data_dir, AuditEvent::ConfigChanged { action: "patch".to_owned(), keys }).await
}

fn refused(message: &str) -> Advice {
    Advice::new(message)
        .hint("`leanclaw config variables` lists every setting and what it expects; nothing was changed")
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The key in the configuration file that a name of a setting stands for.
fn file_key(name: &str) -> &str {
    let variable = variables::ALL.iter().find(|variable| variable.name == name);
    variable.and_then(|variable| variable.keys.first().copied()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{connect, receive, send, serve, welcome};

    #[tokio::test]
    async fn a_change_is_made_on_what_was_read_and_what_does_nothing_is_told() {
        let answer = json!({"path": "/c.json", "restart": {"required": false}});
        let file = json!({"hash": "h", "warnings": [{"path": "", "message": "`a.b` does nothing"}]});
        let url = serve(|mut socket| async move {
            welcome(&mut socket).await;
            let patch = json!({"raw": "{\"a\":{\"b\":1}}", "baseHash": "h"});
            for (method, params, payload) in
                [("config.get", json!({}), &file), ("config.patch", patch, &answer), ("config.get", json!({}), &file)]
            {
                let request = receive(&mut socket).await;
                assert_eq!((&request["method"], &request["params"]), (&json!(method), &params));
                send(&mut socket, json!({"type": "res", "id": request["id"], "ok": true, "payload": payload})).await;
            }
        })
        .await;
        let mut online = Online::new(connect(&url).await.unwrap());
        let done = through(&mut online, &json!({"a": {"b": 1}})).await.unwrap();
        assert_eq!((done.warnings, &done.answer["path"]), (vec!["`a.b` does nothing".to_owned()], &json!("/c.json")));
    }

    #[test]
    fn everything_that_is_wrong_with_a_gateways_file_is_named() {
        let issues = json!([{"path": "", "message": "is odd"}, {"path": "a.b", "message": "is `3`"}]);
        let error = in_effect(&json!({"path": "/c.json", "issues": issues})).unwrap_err();
        assert_eq!(error.to_string(), "/c.json is not valid: <root>: is odd; a.b: is `3`");
    }
}
