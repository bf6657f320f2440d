//! `leanclaw plugin grant` and `revoke`: nobody gives a right without having seen it.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use leanclaw_types::PluginKey;
use leanclaw_types::permission::{GrantChange, Permissions};
use leanclaw_types::plugin::PluginInfo;
use serde_json::json;

use super::show::{key_of, permissions};
use crate::admin::PluginAdmin;
use crate::output;
use crate::report::Advice;

#[derive(Debug, Args)]
pub(crate) struct Grant {
    /// The plugin, with its account if it is not the default one
    #[arg(value_name = "ID[/ACCOUNT]")]
    plugin: PluginKey,
    /// Rights in their text form, such as `kv`, `inbox` or `http:https://api.example.com`
    #[arg(value_name = "ITEM")]
    items: Vec<String>,
    /// Everything the manifest asks for
    #[arg(long)]
    all: bool,
    /// Let it call this host over HTTP; the same as http:HOST
    #[arg(long, value_name = "HOST")]
    http: Vec<String>,
    /// Let it call this host at private addresses; the same as private-http:HOST
    #[arg(long, value_name = "HOST")]
    private_http: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print where the plugin stands afterwards as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The plugin, with its account if it is not the default one
    #[arg(value_name = "ID[/ACCOUNT]")]
    plugin: PluginKey,
    /// Rights in their text form, as `leanclaw plugin inspect` shows them
    #[arg(value_name = "ITEM")]
    items: Vec<String>,
    /// Everything that was granted
    #[arg(long)]
    all: bool,
    /// Take back this host; the same as http:HOST
    #[arg(long, value_name = "HOST")]
    http: Vec<String>,
    /// Take back this host; the same as private-http:HOST
    #[arg(long, value_name = "HOST")]
    private_http: Vec<String>,
    /// Print where the plugin stands afterwards as JSON
    #[arg(long)]
    json: bool,
}

/// Items as typed and from the shorthands, without repetitions.
fn typed_items(items: &[String], http: &[String], private_http: &[String]) -> Vec<String> {
    let shorthands = http.iter().map(|host| format!("http:{host}"));
    let private = private_http.iter().map(|host| format!("private-http:{host}"));
    items.iter().cloned().chain(shorthands).chain(private).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What a grant would do.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    change: GrantChange,
    /// Text forms of what would be added.
    added: Vec<String>,
}

pub(super) async fn grant(admin: &mut dyn PluginAdmin, arguments: &Grant) -> Result<()> {
    let plugin = admin.inspect(&arguments.plugin).await?;
    let items = typed_items(&arguments.items, &arguments.http, &arguments.private_http);
    let plan = plan(&plugin, arguments.all, items)?;
    let approved_already = plan.added.is_empty() && plugin.granted.is_some();
    if approved_already {
        output::note(&format!("`{}` has these rights already; nothing to do.", arguments.plugin));
        return finish(&plugin, arguments.json);
    }
    if !arguments.yes && !confirmed(&plugin, &plan)? {
        return Err(Advice::new("nothing was granted").into());
    }
    let plugin = admin.grant(&arguments.plugin, &plan.change).await?;
    finish(&plugin, arguments.json)
}

pub(super) async fn revoke(admin: &mut dyn PluginAdmin, arguments: &Revoke) -> Result<()> {
    let items = typed_items(&arguments.items, &arguments.http, &arguments.private_http);
    if items.is_empty() != arguments.all {
        let message = if arguments.all { "--all and single rights were both named" } else { "no right was named" };
        let hint = format!("everything: leanclaw plugin revoke {} --all", arguments.plugin);
        return Err(Advice::new(message).hint("name single rights, or --all").hint(hint).into());
    }
    let change = GrantChange { all: arguments.all, items };
    let key = &arguments.plugin;
    match admin.revoke(key, &change).await? {
        Some(plugin) => finish(&plugin, arguments.json),
        None if arguments.json => output::json(&json!({"id": key.plugin, "account": key.account, "installed": false})),
        None => output::text(&format!("{key} is not installed; the rights that were kept for it are taken back")),
    }
}

fn finish(plugin: &PluginInfo, as_json: bool) -> Result<()> {
    if as_json {
        return output::json(plugin);
    }
    let reason = plugin.reason.lines().next().map(|reason| format!(": {reason}")).unwrap_or_default();
    let state = plugin.state.as_str();
    output::text(&format!("{} is {state}{reason}\n{}", key_of(plugin), permissions(plugin).trim_end()))
}

/// Works out what is added, or what is wrong with the request.
fn plan(plugin: &PluginInfo, all: bool, items: Vec<String>) -> Result<Plan> {
    let key = key_of(plugin);
    let requested = plugin.requested.items();
    let missing = plugin.requested.missing_from(&plugin.granted.clone().unwrap_or_default());
    if all && !items.is_empty() {
        return Err(Advice::new("--all and single rights were both named").hint("name single rights, or --all").into());
    }
    // Approving a plugin that asks for nothing needs no further word. Everything is sent as what was shown: by the time of
    // the answer another version may be there that asks for more.
    if all || (items.is_empty() && requested.is_empty()) {
        return Ok(Plan { change: shown(&plugin.requested), added: missing });
    }
    if items.is_empty() {
        let mut advice = Advice::new(format!("no right was named for `{key}`"));
        advice = advice.hint(format!("everything it asks for: leanclaw plugin grant {key} --all"));
        for item in &missing {
            advice = advice.hint(format!("leanclaw plugin grant {key} '{item}'"));
        }
        return Err(advice.into());
    }
    let stands_for = |typed: &str, item: &str| typed == item || (typed == "kv" && item.starts_with("kv:"));
    if let Some(unknown) = items.iter().find(|typed| !requested.iter().any(|item| stands_for(typed, item))) {
        let asked: Vec<&str> = requested.iter().map(String::as_str).collect();
        let message = format!("`{key}` does not ask for `{unknown}`, so granting it would do nothing");
        return Err(Advice::new(message).hint(format!("it asks for: {}", asked.join(", "))).into());
    }
    let added = missing.into_iter().filter(|item| items.iter().any(|typed| stands_for(typed, item))).collect();
    Ok(Plan { change: GrantChange { all: false, items }, added })
}

/// A grant of everything that is asked for here and now.
pub(super) fn shown(requested: &Permissions) -> GrantChange {
    GrantChange { all: false, items: requested.items().into_iter().collect() }
}

/// Shows what would be given and asks; without a person there, it refuses.
fn confirmed(plugin: &PluginInfo, plan: &Plan) -> Result<bool> {
    output::note(&format!("{} {}: {}", key_of(plugin), plugin.version, plugin.description));
    output::note(permissions(plugin).trim_end());
    if plan.added.is_empty() {
        output::note("Granting approves it as it is.");
    } else {
        output::note("Granting would add:");
        for item in &plan.added {
            output::note(&format!("  + {item}"));
        }
    }
    if !output::can_ask() {
        let hint = "read what would be added, then repeat the command with --yes";
        return Err(Advice::new("there is no terminal to ask on, so nothing was granted").hint(hint).into());
    }
    output::ask("Grant it?")
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::plugin;
    use super::*;
    use crate::report::Report;

    fn asking() -> PluginInfo {
        plugin(
            json!({"http": ["https://a.example"], "kv": {"quotaBytes": 10}, "inbox": true}),
            Some(json!({"inbox": true})),
        )
    }

    #[test]
    fn all_adds_what_is_missing() {
        let plan = plan(&asking(), true, Vec::new()).unwrap();
        assert_eq!(plan.added, ["http:https://a.example", "kv:10"]);
        let shown = ["http:https://a.example", "inbox", "kv:10"];
        assert_eq!((plan.change.all, plan.change.items.as_slice()), (false, shown.map(str::to_owned).as_slice()));
    }

    #[test]
    fn single_items_add_themselves_only() {
        let plan = plan(&asking(), false, vec!["inbox".into(), "kv".into()]).unwrap();
        assert_eq!(plan.added, ["kv:10"], "inbox is granted already, `kv` stands for its size");
        assert_eq!(plan.change.items, ["inbox", "kv"]);
    }

    #[test]
    fn what_is_not_asked_for_cannot_be_granted() {
        let report = Report::of(&plan(&asking(), false, vec!["http:https://b.example".into()]).unwrap_err());
        assert!(report.message.contains("https://b.example"), "{report:?}");
        assert!(report.hints[0].contains("http:https://a.example"), "{report:?}");
    }

    #[test]
    fn naming_nothing_is_answered_with_the_commands_that_would_do() {
        let report = Report::of(&plan(&asking(), false, Vec::new()).unwrap_err());
        assert_eq!(
            report.hints,
            [
                "everything it asks for: leanclaw plugin grant notes --all",
                "leanclaw plugin grant notes 'http:https://a.example'",
                "leanclaw plugin grant notes 'kv:10'",
            ]
        );
        assert!(plan(&asking(), true, vec!["kv".into()]).is_err());
    }

    #[test]
    fn a_plugin_that_asks_for_nothing_is_approved_as_a_whole() {
        let plan = plan(&plugin(json!({}), None), false, Vec::new()).unwrap();
        assert!(!plan.change.all && plan.change.items.is_empty() && plan.added.is_empty());
    }

    #[test]
    fn shorthands_become_items() {
        let items = typed_items(&["kv".into(), "http:a".into()], &["a".into(), "b".into()], &["c".into()]);
        assert_eq!(items, ["http:a", "http:b", "kv", "private-http:c"]);
    }
}
