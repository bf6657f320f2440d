//! `leanclaw config get` and `config set`: one key of the settings.
//!
//! A change goes through the program that runs, so that it is checked, written down and applied in one place; where none
//! runs, the command changes the file itself, by the same rules. A gateway that the command line names is asked for its own.

use std::sync::Arc;

use anyhow::Result;
use leanclaw_gateway::{OutrankedKey, Settings, SettingsIssue, is_or_is_below, merge_settings, without_secrets};
use serde_json::{Value, json};

use super::gateway::Which;
use super::{block_on, sources};
use crate::admin::{Online, running_here};
use crate::client::ClientError;
use crate::config::{self, Flags, json5_tree, variables};
use crate::locate::Named;
use crate::output;
use crate::report::Advice;
use crate::wiring::{SettingsFile, set};

/// Prints what is in effect at a key of the configuration file or for a variable.
pub(crate) fn get(flags: Flags, gateway: Which, key: &str, as_json: bool) -> Result<()> {
    let shown = if gateway.is_to_be_asked() {
        let found = gateway.find(flags)?;
        let file = block_on(async { Online::new(found.connect().await?).call("config.get", json!({})).await })?;
        in_effect(&file)?
    } else {
        let settings: Arc<dyn Settings> = Arc::new(SettingsFile::new(sources(flags)?));
        let text = settings.load()?;
        let checked = settings.check(text.as_deref().unwrap_or("{}"));
        if let Some(SettingsIssue { path, message }) = checked.issues.first() {
            return Err(unusable(&settings.path(), path, message).into());
        }
        without_secrets(&settings, &checked.resolved)
    };
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
    if let Some(issue) = list(file, "issues").next() {
        return Err(unusable(text(file, "path"), text(issue, "path"), text(issue, "message")).into());
    }
    Ok(file.get("resolved").cloned().unwrap_or_default())
}

fn unusable(file: &str, path: &str, message: &str) -> Advice {
    Advice::new(format!("{file} is not valid: {path}: {message}"))
        .hint("`leanclaw config check` names everything that is wrong")
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
    let Done { answer, place, warnings } = if gateway.is_to_be_asked() {
        let found = gateway.find(flags)?;
        block_on(async { through(&mut Online::new(found.connect().await?), &patch).await })?
    } else {
        put_here(flags, path, &patch)?
    };
    let restart = answer.get("restart").unwrap_or(&Value::Null);
    counts(path, restart)?;
    if as_json {
        return output::json(&answer);
    }
    output::text(&format!("{path} is set in {}.", text(&answer, "path")))?;
    let named = [format!("`{path}`"), format!("`{path}.")];
    let is_about_it = |warning: &&String| named.iter().any(|name| warning.contains(name));
    warnings.iter().filter(is_about_it).for_each(|warning| output::warning(warning));
    notes(restart, place).iter().for_each(|note| output::note(note));
    Ok(())
}

/// Sets it in the program that runs with this data directory, or in the file where none does.
fn put_here(flags: Flags, path: &str, patch: &Value) -> Result<Done> {
    let named = Named::by(&flags);
    let sources = sources(flags)?;
    let config = config::resolve(&sources).ok().map(|resolution| resolution.config);
    let settings: Arc<dyn Settings> = Arc::new(SettingsFile::new(sources));
    block_on(async {
        let running = match &config {
            Some(config) => running_here(config, named).await?,
            // What is set may be what repairs the file.
            None => None,
        };
        match running {
            Some(mut online) => through(&mut online, patch).await,
            None => directly(&settings, path, patch),
        }
    })
}

/// Whether what was stored counts as it should.
fn counts(path: &str, restart: &Value) -> Result<()> {
    match restart.get("notApplied").and_then(Value::as_str) {
        Some(reason) => Err(Advice::new(format!("{path} is stored, but it does not count yet: {reason}"))
            .hint("it counts once LeanClaw is started again, at the latest")
            .into()),
        None => Ok(()),
    }
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

fn directly(settings: &Arc<dyn Settings>, path: &str, patch: &Value) -> Result<Done> {
    let stored = settings.load()?;
    let before = settings.check(stored.as_deref().unwrap_or("{}"));
    if let Some(message) = before.syntax {
        return Err(Advice::new(format!("{} cannot be changed: {message}", settings.path()))
            .hint("repair the file with an editor first")
            .into());
    }
    let mut wanted = before.parsed;
    merge_settings(&mut wanted, patch);
    let mut text = serde_json::to_string_pretty(&wanted)?;
    text.push('\n');
    let checked = settings.check(&text);
    let is_set = |key: &str| is_or_is_below(key, path) || is_or_is_below(path, key);
    // What a flag or the environment covers today would stop a start without them.
    let covered = checked.covered.iter().filter(|issue| is_set(&issue.path));
    let wrong: Vec<String> =
        checked.issues.iter().chain(covered).map(|issue| format!("{}: {}", issue.path, issue.message)).collect();
    if !wrong.is_empty() {
        return Err(refused(&format!("invalid config: {}", wrong.join("; "))).into());
    }
    settings.store(&text)?;
    let outranked: Vec<&OutrankedKey> = checked.outranked.iter().filter(|outranked| is_set(&outranked.key)).collect();
    let config = without_secrets(settings, &checked.parsed);
    Ok(Done {
        answer: json!({ "ok": true, "path": settings.path(), "config": config, "restart": { "outranked": outranked } }),
        place: "in a program that is started from here",
        warnings: checked.warnings.into_iter().map(|warning| warning.message).collect(),
    })
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
    async fn what_is_stored_and_does_not_count_is_a_failure() {
        let restart = json!({"required": false, "notApplied": "the disk is away"});
        let answer = json!({"path": "/c.json", "restart": restart});
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
        assert_eq!(done.warnings, ["`a.b` does nothing"]);
        let error = counts("a.b", &done.answer["restart"]).unwrap_err().to_string();
        assert_eq!(error, "a.b is stored, but it does not count yet: the disk is away");
        assert!(counts("a.b", &json!({"required": true})).is_ok());
    }
}
