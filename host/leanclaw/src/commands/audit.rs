//! `leanclaw audit tail`: reads the audit log straight from the database, whether the program runs or not.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use leanclaw_store::{AuditQuery, Store};
use leanclaw_types::audit::AuditRow;
use serde_json::Value;

use super::{block_on, configure};
use crate::config::Flags;
use crate::output;
use crate::report::Advice;
use crate::telemetry::shown_time;

/// How often a follower looks for new rows.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the newest rows, oldest first
    Tail(Tail),
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// How many rows to show
    #[arg(long, default_value_t = 50, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only rows about this plugin
    #[arg(long, value_name = "ID[/ACCOUNT]")]
    plugin: Option<String>,
    /// Only rows of this kind, such as plugin-granted or egress-denied
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Go on showing rows as they are written
    #[arg(long, short)]
    follow: bool,
    /// Print JSON: a list, or one object per line with --follow
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: Flags, command: Command) -> Result<()> {
    let Command::Tail(tail) = command;
    let config = configure(flags)?;
    if !config.data_dir.join("core.db").is_file() {
        let message = format!("there is no audit log in {} yet", config.data_dir.display());
        let hint = "it begins with the first `leanclaw start`; --data-dir or LEANCLAW_DATA_DIR names another directory";
        return Err(Advice::new(message).hint(hint).into());
    }
    let store = Store::open(&config.data_dir)?;
    block_on(show(&store, &tail, &config.time_zone))
}

async fn show(store: &Store, tail: &Tail, zone: &TimeZone) -> Result<()> {
    let query = |after_id: Option<i64>| AuditQuery {
        limit: if after_id.is_some() { 1000 } else { tail.limit },
        after_id,
        plugin: tail.plugin.clone(),
        kind: tail.kind.clone(),
    };
    let rows = store.audit_tail(query(None)).await?;
    if !tail.follow && tail.json {
        return output::json(&rows);
    }
    if !tail.follow && rows.is_empty() {
        return output::text(&none(store, tail).await?);
    }
    if !tail.follow {
        let cells: Vec<Vec<String>> = rows.iter().map(|row| cells(row, zone)).collect();
        return output::table(&["ID", "TIME", "KIND", "ACTOR", "DETAILS"], &cells);
    }
    let mut last_id = rows.last().map_or(0, |row| row.id);
    let mut rows = rows;
    loop {
        for row in &rows {
            if tail.json {
                output::json_line(row)?;
            } else {
                output::text(&cells(row, zone).join("  "))?;
            }
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        rows = store.audit_tail(query(Some(last_id))).await?;
        last_id = rows.last().map_or(last_id, |row| row.id);
    }
}

/// Why no row is shown. What was asked for may be misspelt, so what there is is named.
async fn none(store: &Store, tail: &Tail) -> Result<String> {
    let all = AuditQuery { limit: 1000, after_id: None, plugin: None, kind: None };
    let rows = store.audit_tail(all).await?;
    let listed = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    Ok(match (&tail.plugin, &tail.kind) {
        _ if rows.is_empty() => "Nothing was written down yet.".to_owned(),
        (_, Some(kind)) if rows.iter().all(|row| row.record.event.kind() != kind) => {
            let kinds = rows.iter().map(|row| row.record.event.kind().to_owned()).collect();
            format!("No row is of the kind `{kind}`. Of late there were: {}.", listed(kinds))
        }
        (Some(plugin), _) if rows.iter().all(|row| row.record.event.plugin() != Some(plugin)) => {
            let plugins = rows.iter().filter_map(|row| row.record.event.plugin()).map(str::to_owned).collect();
            format!("No row is about `{plugin}`. Of late there were rows about: {}.", listed(plugins))
        }
        _ => "No row is like that.".to_owned(),
    })
}

/// One row for people: whatever its kind, its own fields follow as `name=value`.
fn cells(row: &AuditRow, zone: &TimeZone) -> Vec<String> {
    let record = &row.record;
    let fields = match serde_json::to_value(&record.event) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let details: Vec<String> = fields
        .iter()
        .filter(|(name, value)| *name != "kind" && !value.is_null() && **value != "")
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        })
        .collect();
    vec![
        row.id.to_string(),
        shown_time(record.at_ms, zone),
        record.event.kind().to_owned(),
        record.actor.clone(),
        details.join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use leanclaw_types::audit::{AuditEvent, AuditRecord};

    #[test]
    fn a_row_shows_its_own_fields() {
        let event = AuditEvent::PluginGranted {
            plugin: "notes".into(),
            added: vec!["kv:1".into()],
            granted: vec!["kv:1".into()],
        };
        let row = AuditRow { id: 7, record: AuditRecord { at_ms: 0, actor: "client:cli".into(), event } };
        let shown = cells(&row, &TimeZone::UTC);
        assert_eq!(shown[0], "7");
        assert_eq!(shown[2..4], ["plugin-granted", "client:cli"]);
        assert_eq!(shown[4], r#"plugin=notes added=["kv:1"] granted=["kv:1"]"#);
    }
}
