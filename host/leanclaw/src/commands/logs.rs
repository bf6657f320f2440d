//! `leanclaw logs`: the log of the program, from the gateway that runs or else from the file it left.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::tz::TimeZone;
use leanclaw_gateway::{LogWish, MAX_LOG_BYTES, read_log};
use serde::Deserialize;
use serde_json::{Value, json};

use super::block_on;
use super::gateway::{Found, Which};
use crate::client::{ClientError, GatewayClient};
use crate::config::Flags;
use crate::log_file;
use crate::output;

/// Most lines at once.
const MAX_LINES: u32 = 5000;
/// Time between two looks for new lines.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Go on and print new lines as they are written
    #[arg(short, long)]
    follow: bool,
    /// How many lines to begin with
    #[arg(long, value_name = "LINES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
    limit: u32,
    #[command(flatten)]
    gateway: Which,
    /// Print the lines as they are in the file, one JSON object each
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Piece {
    cursor: u64,
    lines: Vec<String>,
}

/// Where the lines come from.
enum Origin {
    Gateway(Box<GatewayClient>),
    File(std::path::PathBuf),
}

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    let Arguments { follow, limit, gateway, json: as_json } = arguments;
    let may_read_file = !gateway.is_named(&flags);
    let gateway = gateway.find(flags)?;
    let zone = gateway.config.time_zone.clone();
    block_on(async {
        let mut origin = origin(&gateway, may_read_file).await?;
        let (mut cursor, mut limit) = (None, limit);
        loop {
            let piece = next(&mut origin, cursor, limit).await?;
            for line in &piece.lines {
                output::text(&if as_json { line.clone() } else { shown(line, &zone) })?;
            }
            // What is new is shown whole.
            (cursor, limit) = (Some(piece.cursor), MAX_LINES);
            if !follow {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

async fn origin(gateway: &Found, may_read_file: bool) -> Result<Origin> {
    match gateway.connect().await {
        Ok(client) => Ok(Origin::Gateway(Box::new(client))),
        Err(ClientError::NotListening { .. }) if may_read_file => {
            let file = log_file::path(&gateway.config.data_dir);
            if !file.exists() {
                output::note(&format!(
                    "LeanClaw does not run, and there is no {} from an earlier time",
                    file.display()
                ));
            }
            Ok(Origin::File(file))
        }
        Err(error) => Err(error.into()),
    }
}

async fn next(origin: &mut Origin, cursor: Option<u64>, limit: u32) -> Result<Piece> {
    match origin {
        Origin::Gateway(client) => {
            let mut params = json!({ "limit": limit, "maxBytes": MAX_LOG_BYTES });
            if let (Some(cursor), Some(object)) = (cursor, params.as_object_mut()) {
                object.insert("cursor".into(), json!(cursor));
            }
            let answer = client.request("logs.tail", Some(params)).await?;
            serde_json::from_value(answer).context("the gateway's answer to logs.tail cannot be read")
        }
        Origin::File(file) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let piece = read_log(file, LogWish { cursor, limit, max_bytes: MAX_LOG_BYTES });
            let piece = piece.with_context(|| format!("{} cannot be read", file.display()))?;
            Ok(Piece { cursor: piece.cursor, lines: piece.lines })
        }
    }
}

/// A line for people: time, level, part, message, fields. A line of another shape is shown as it is.
fn shown(line: &str, zone: &TimeZone) -> String {
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(line) else { return output::on_terminal(line) };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let time = text(object.get("time"));
    let time = time
        .parse::<jiff::Timestamp>()
        .map_or(time, |at| at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string());
    let level = text(object.get("_meta").and_then(|meta| meta.get("logLevelName")));
    let part: Value = serde_json::from_str(&text(object.get("0"))).unwrap_or_default();
    let part = text(part.get("subsystem"));
    let mut shown = format!("{time} {level:>5} {part}: {}", text(object.get("1")));
    for (name, value) in object.get("2").and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        shown.push_str(&format!(" {name}={value}"));
    }
    output::on_terminal(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_with_its_parts_and_cannot_steer_the_terminal() {
        let line = json!({
            "0": "{\"subsystem\":\"plugins/notes\"}", "1": "hello \u{1b}[31m", "2": {"count": 3},
            "_meta": {"logLevelName": "WARN"}, "time": "1970-01-01T00:00:01Z",
        });
        let shown = shown(&line.to_string(), &TimeZone::UTC);
        assert_eq!(shown, "1970-01-01T00:00:01.000+00:00  WARN plugins/notes: hello \\u{1b}[31m count=3");
        assert_eq!(super::shown("plain \u{7}", &TimeZone::UTC), "plain \\u{7}");
    }
}
