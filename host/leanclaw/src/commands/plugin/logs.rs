//! `leanclaw plugin logs`.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use jiff::tz::TimeZone;
use leanclaw_types::PluginId;
use leanclaw_types::plugin::LogLine;

use crate::admin::PluginAdmin;
use crate::output;
use crate::telemetry::shown_time;

/// How often a follower looks for new lines.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);
/// Most lines fetched at once while following.
pub(super) const FOLLOW_LINES: u32 = 5000;

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The plugin
    #[arg(value_name = "ID")]
    plugin: PluginId,
    /// How many of the newest lines to show
    #[arg(long, default_value_t = 100, value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..=5000))]
    limit: u32,
    /// Go on showing lines as they come
    #[arg(long, short)]
    follow: bool,
    /// Print JSON: a list, or one object per line with --follow
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(admin: &mut dyn PluginAdmin, arguments: &Logs, zone: &TimeZone) -> Result<()> {
    let mut lines = admin.logs(&arguments.plugin, None, arguments.limit).await?;
    if !arguments.follow && arguments.json {
        return output::json(&lines);
    }
    let mut last_seq = None;
    loop {
        for line in &lines {
            if arguments.json {
                output::json_line(line)?;
            } else {
                output::text(&shown(line, zone))?;
            }
        }
        if !arguments.follow {
            return Ok(());
        }
        last_seq = lines.last().map(|line| line.seq).or(last_seq);
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        lines = admin.logs(&arguments.plugin, last_seq, FOLLOW_LINES).await?;
    }
}

/// One line for people.
pub(super) fn shown(line: &LogLine, zone: &TimeZone) -> String {
    let call = if line.call_id.is_empty() { String::new() } else { format!(" [{}]", line.call_id) };
    let LogLine { level, source, message, .. } = line;
    format!("{} {level:<5} {source}{call} {message}", shown_time(line.at_ms, zone))
}
