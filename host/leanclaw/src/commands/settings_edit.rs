//! `leanclaw config get` and `config set`: one key of the settings.
//!
//! A change goes through the program that runs, so that it is checked, written down and applied in one place; where none
//! runs, the command changes the file itself, by the same rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use leanclaw_gateway::{Settings, merge_settings, without_secrets};
use serde_json::{Value, json};

use super::{block_on, sources};
use crate::admin::{Online, running_here};
use crate::config::{self, FileText, Flags, Problem, Resolution, Source, Sources, json5_tree, variables};
use crate::locate::Named;
use crate::output;
use crate::report::Advice;
use crate::wiring::{SettingsFile, set};

/// Prints what is in effect at a key of the configuration file or for a variable.
pub(crate) fn get(flags: Flags, key: &str, as_json: bool) -> Result<()> {
    let settings: Arc<dyn Settings> = Arc::new(SettingsFile::new(sources(flags)?));
    let text = settings.load()?;
    let checked = settings.check(text.as_deref().unwrap_or("{}"));
    if let Some(first) = checked.issues.first() {
        return Err(Advice::new(format!("{} is not valid: {}: {}", settings.path(), first.path, first.message))
            .hint("`leanclaw config check` names everything that is wrong")
            .into());
    }
    let shown = without_secrets(&settings, &checked.resolved);
    let path = file_key(key);
    let found = path.split('.').try_fold(&shown, |value, part| value.get(part));
    match (found, as_json) {
        (Some(value), true) => output::json(&json!({ "key": path, "value": value })),
        (Some(Value::String(text)), false) => output::text(&output::on_terminal(text)),
        (Some(value), false) => output::json(value),
        (None, _) => Err(Advice::new(format!("nothing is set at `{key}` and it has no default"))
            .hint("`leanclaw config variables` lists every setting and its keys")
            .into()),
    }
}

/// Sets a key of the configuration file; `null` takes it out.
pub(crate) fn put(flags: Flags, key: &str, value: &str, as_json: bool) -> Result<()> {
    let named = Named::by(&flags);
    let sources = sources(flags)?;
    let path = file_key(key);
    // What is no JSON5 is meant as a text.
    let value = json5_tree::parse(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    let mut patch = json!({});
    set(&mut patch, path, value);
    let resolution = config::resolve(&sources).ok();
    let covered_by = resolution.as_ref().and_then(|resolution| covered_by(resolution, path));
    let config = resolution.map(|resolution| resolution.config);
    let warnings = by_itself(&sources, path, &patch)?;
    let settings: Arc<dyn Settings> = Arc::new(SettingsFile::new(sources));
    let answer = block_on(async {
        let running = match &config {
            Some(config) => running_here(config, named).await?,
            // What is set may be what repairs the file.
            None => None,
        };
        match running {
            Some(mut online) => through(&mut online, &patch).await,
            None => directly(&settings, &patch),
        }
    })?;
    if as_json {
        return output::json(&answer);
    }
    output::text(&format!("{path} is set in {}.", settings.path()))?;
    warnings.iter().for_each(|warning| output::warning(warning));
    let notes = notes(&answer);
    notes.iter().for_each(|note| output::note(note));
    // Without an answer that knows better, what covers it here.
    if let Some(covered_by) = covered_by.filter(|_| notes.is_empty()) {
        output::note(&covered_by);
    }
    Ok(())
}

/// What a running program says of when a change counts, for a person.
fn notes(answer: &Value) -> Vec<String> {
    let Some(restart) = answer.get("restart") else { return Vec::new() };
    let list = |name: &str| restart.get(name).and_then(Value::as_array).into_iter().flatten();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let outranked = list("outranked").map(|outranked| {
        let (key, variable, source) = (text(outranked, "key"), text(outranked, "variable"), text(outranked, "source"));
        format!("{key} does not count in the program that runs, where {variable} comes from elsewhere ({source})")
    });
    let mut notes: Vec<String> = outranked.collect();
    if restart.get("required") == Some(&Value::Bool(true)) {
        notes.push("it counts once LeanClaw is started again".to_owned());
    }
    let edited: Vec<&str> = list("edited").filter_map(Value::as_str).collect();
    if !edited.is_empty() {
        notes.push(format!("what was changed in the file before counts from now on, too: {}", edited.join(", ")));
    }
    notes
}

/// Looks at what the file would say of `path`, and at nothing else: a mistake that a flag or the environment covers today
/// would stop a start without them. Gives what is to be known about it.
fn by_itself(sources: &Sources, path: &str, patch: &Value) -> Result<Vec<String>> {
    let bare = Sources {
        flags: Flags::default(),
        environment: BTreeMap::new(),
        not_utf8: Vec::new(),
        dotenv: (sources.dotenv.0.clone(), FileText::Missing),
        ..sources.clone()
    };
    let FileText::Text { text, .. } = &bare.config_file.1 else {
        return about(&Sources { config_file: (bare.config_file.0.clone(), file_text(patch)), ..bare }, path);
    };
    // A file that cannot be read is refused where it is changed.
    let Ok(mut wanted) = json5_tree::parse(text) else { return Ok(Vec::new()) };
    merge_settings(&mut wanted, patch);
    about(&Sources { config_file: (bare.config_file.0.clone(), file_text(&wanted)), ..bare }, path)
}

fn file_text(value: &Value) -> FileText {
    FileText::Text { text: value.to_string(), others_can_read: false }
}

/// The warnings about `path`.
///
/// # Errors
/// What stands there cannot be used.
fn about(sources: &Sources, path: &str) -> Result<Vec<String>> {
    let is_it = |key: &str| key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let error = match config::resolve(sources) {
        Ok(resolution) => {
            let named = [format!("`{path}`"), format!("`{path}.")];
            let is_about = |warning: &String| named.iter().any(|name| warning.contains(name));
            return Ok(resolution.warnings.into_iter().filter(is_about).collect());
        }
        Err(error) => error,
    };
    let wrong = error.problems.iter().find_map(|problem| match problem {
        Problem::Invalid { value, source: Source::File { key, .. }, expected, .. } if is_it(key) => {
            Some(format!("invalid config: {key}: is `{value}`; expected {expected}"))
        }
        _ => None,
    });
    let hint = "`leanclaw config variables` lists every setting and what it expects; nothing was changed";
    wrong.map_or(Ok(Vec::new()), |wrong| Err(Advice::new(wrong).hint(hint).into()))
}

/// What wins over the file at `path`, if anything does here.
fn covered_by(resolution: &Resolution, path: &str) -> Option<String> {
    let setting = resolution.effective.iter().find(|setting| setting.variable.keys.contains(&path))?;
    let source = match &setting.source {
        Source::File { .. } | Source::Default => return None,
        source => source,
    };
    Some(format!("it does not count as long as {} comes from elsewhere ({source})", setting.variable.name))
}

async fn through(online: &mut Online, patch: &Value) -> Result<Value> {
    let file = online.call("config.get", json!({})).await?;
    let mut params = json!({ "raw": patch.to_string() });
    if let (Some(hash), Some(params)) = (file.get("hash"), params.as_object_mut()) {
        params.insert("baseHash".into(), hash.clone());
    }
    online.call("config.patch", params).await
}

fn directly(settings: &Arc<dyn Settings>, patch: &Value) -> Result<Value> {
    let text = settings.load()?;
    let before = settings.check(text.as_deref().unwrap_or("{}"));
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
    if !checked.issues.is_empty() {
        let lines = checked.issues.iter().map(|issue| format!("{}: {}", issue.path, issue.message));
        let lines: Vec<String> = lines.collect();
        return Err(Advice::new(format!("invalid config: {}", lines.join("; ")))
            .hint("`leanclaw config variables` lists every setting and what it expects; nothing was changed")
            .into());
    }
    settings.store(&text)?;
    Ok(json!({ "ok": true, "path": settings.path(), "config": without_secrets(settings, &checked.parsed) }))
}

/// The key in the configuration file that a name of a setting stands for.
fn file_key(name: &str) -> &str {
    let variable = variables::ALL.iter().find(|variable| variable.name == name);
    variable.and_then(|variable| variable.keys.first().copied()).unwrap_or(name)
}
