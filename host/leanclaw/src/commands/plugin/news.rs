//! What `leanclaw plugin dev` tells: lines for people, or one JSON object per line with `--json`.

use std::path::Path;

use anyhow::Result;
use jiff::tz::TimeZone;
use leanclaw_types::PluginId;
use leanclaw_types::plugin::{LogLine, PluginInfo};
use serde::Serialize;

use super::{build, install, logs};
use crate::author::build::Built;
use crate::output;
use crate::report::Report;

/// One thing that happened. In JSON its name stands under `event`, and its fields beside it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum News<'a> {
    /// A source file changed.
    Changed {
        /// Relative to the plugin's folder, when it lies there.
        path: &'a Path,
    },
    /// A build made a component.
    Built(&'a Built),
    /// A build, or the swap after it, failed; the version before goes on.
    Failed(&'a Report),
    /// It lies in the plugin folder, and no program runs that would load it.
    Placed {
        /// The plugin.
        id: &'a PluginId,
    },
    /// The running program does not show what was placed: it looks elsewhere.
    NotSeen {
        /// The plugin.
        id: &'a PluginId,
    },
    /// Where the plugin stands now, as `plugin inspect --json` shows it.
    State {
        /// The plugin.
        plugin: &'a PluginInfo,
    },
    /// The plugin logged something.
    Log(&'a LogLine),
    /// Nothing is to be done until the next change.
    Watching,
}

/// Whom it is told.
#[derive(Debug)]
pub(super) struct Listener<'a> {
    /// Whether a program reads it.
    pub(super) as_json: bool,
    /// For the times that people read.
    pub(super) zone: &'a TimeZone,
}

impl Listener<'_> {
    /// Tells it: data to standard output, what is about it to standard error; everything to standard output as JSON.
    pub(super) fn tell(&self, news: &News<'_>) -> Result<()> {
        if self.as_json {
            return output::json_line(news);
        }
        match news {
            News::Changed { path } => output::note(&format!("Changed: {}", path.display())),
            News::Built(built) => return output::text(&build::shown(built)),
            News::Failed(report) => output::error(report),
            News::Placed { id } => {
                return output::text(&format!("{id} is in the plugin folder; `leanclaw start` loads it"));
            }
            News::NotSeen { id } => {
                output::warning(&format!(
                    "the running program does not show {id}; does it use another plugin folder? (leanclaw config)"
                ));
            }
            News::State { plugin } => return output::text(&install::state_line(plugin)),
            News::Log(line) => return output::text(&logs::shown(line, self.zone)),
            News::Watching => output::note("Watching for changes (Ctrl-C ends)."),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_line_is_an_object_that_names_its_event() {
        let line: LogLine = serde_json::from_value(json!({
            "seq": 4, "atMs": 1, "level": "info", "callId": "", "source": "log", "message": "m"
        }))
        .unwrap();
        let report = Report { message: "no".into(), causes: vec!["why".into()], hints: vec![] };
        let shown = |news: &News<'_>| -> Value { serde_json::to_value(news).unwrap() };
        assert_eq!(shown(&News::Watching), json!({"event": "watching"}));
        assert_eq!(shown(&News::Changed { path: Path::new("a.rs") }), json!({"event": "changed", "path": "a.rs"}));
        let failed = json!({"event": "failed", "message": "no", "causes": ["why"], "hints": []});
        assert_eq!(shown(&News::Failed(&report)), failed);
        let logged = shown(&News::Log(&line));
        assert_eq!((&logged["event"], &logged["message"]), (&json!("log"), &json!("m")));
    }
}
