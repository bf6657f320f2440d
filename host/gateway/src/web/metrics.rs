//! `/metrics`: counters as JSON, or as text for Prometheus when `Accept` asks for it or at `/metrics/prometheus`.
//!
//! They name plugins, so they are for callers on this machine and those who show the credential.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Request, State as Extract};
use axum::response::IntoResponse;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use leanclaw_types::plugin::{PluginInfo, PluginStats};
use serde_json::json;

use super::is_trusted;
use super::reply::{Reply, json_reply};
use crate::auth::Peer;
use crate::gateway::State;

/// The media type of the text format.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// `/metrics`.
pub(super) async fn metrics(Extract(state): Extract<Arc<State>>, request: Request) -> Reply {
    answer(&state, &request, wants_text(request.headers()))
}

/// `/metrics/prometheus`.
pub(super) async fn prometheus(Extract(state): Extract<Arc<State>>, request: Request) -> Reply {
    answer(&state, &request, true)
}

fn answer(state: &State, request: &Request, as_text: bool) -> Reply {
    if let Err(refusal) = is_trusted(state, request, Peer::is_local) {
        return *refusal;
    }
    let now = Now::of(state);
    if as_text {
        let headers = [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        return (StatusCode::OK, headers, now.text()).into_response();
    }
    json_reply(StatusCode::OK, &now.json())
}

/// Whether a scraper asks. Browsers and scripts, which take anything, get JSON.
fn wants_text(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("text/plain") || kind.eq_ignore_ascii_case("application/openmetrics-text")
    })
}

/// The figures of one moment.
struct Now {
    ready: bool,
    uptime_seconds: f64,
    resident_bytes: Option<u64>,
    connections: usize,
    channels: usize,
    queued: usize,
    sessions: u64,
    plugins: Vec<PluginInfo>,
}

impl Now {
    fn of(state: &State) -> Self {
        let services = &state.services;
        let sessions = services.sessions.at_a_glance(0).unwrap_or_default();
        Self {
            ready: !state.draining() && services.readiness.iter().all(|part| part.missing().is_none()),
            uptime_seconds: state.started.elapsed().as_secs_f64(),
            resident_bytes: resident_bytes(),
            connections: state.hub.len(),
            channels: services.plugins.channels().iter().filter(|channel| !channel.cut_off).count(),
            queued: state.pulse.queued().len(),
            sessions: sessions.iter().map(|agent| agent.count).sum(),
            plugins: services.plugins.list(),
        }
    }

    /// The names that the original LeanClaw's monitors read, and a few more. There are no containers.
    fn json(&self) -> serde_json::Value {
        let megabytes = self.resident_bytes.map(|bytes| bytes / (1024 * 1024));
        json!({
            "status": if self.ready { "ok" } else { "degraded" }, "uptime": self.uptime_seconds, "activeContainers": 0,
            "queuedMessages": self.queued, "memoryUsageMb": megabytes.unwrap_or(0), "connectedChannels": self.channels,
            "connections": self.connections, "sessions": self.sessions, "plugins": self.states(),
        })
    }

    fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for plugin in &self.plugins {
            *states.entry(plugin.state.as_str()).or_insert(0) += 1;
        }
        states
    }

    fn text(&self) -> String {
        let mut page = Page::default();
        page.one("leanclaw_ready", "gauge", "Whether every part can serve.", f64::from(u8::from(self.ready)));
        page.one("leanclaw_uptime_seconds", "gauge", "Time since the start.", self.uptime_seconds);
        if let Some(bytes) = self.resident_bytes {
            page.one("leanclaw_resident_memory_bytes", "gauge", "Memory of the process.", bytes);
        }
        page.one("leanclaw_connections", "gauge", "Clients past their handshake.", self.connections);
        page.one("leanclaw_channels", "gauge", "Channels that run and reach their service.", self.channels);
        page.one("leanclaw_queued_system_events", "gauge", "Events that wait for an agent.", self.queued);
        page.one("leanclaw_sessions", "gauge", "Sessions that are not put away.", self.sessions);
        page.head("leanclaw_plugins", "gauge", "Plugins and accounts by state.");
        for (state, count) in self.states() {
            page.line("leanclaw_plugins", &[("state", state)], count);
        }
        type Figure = fn(&PluginStats) -> u64;
        let counters: [(&str, &str, Figure); 6] = [
            ("leanclaw_plugin_calls_total", "Guest calls.", |stats| stats.calls),
            ("leanclaw_plugin_failures_total", "Calls that ended in a failure.", |stats| stats.failures),
            ("leanclaw_plugin_traps_total", "Calls that ended in a trap.", |stats| stats.traps),
            ("leanclaw_plugin_timeouts_total", "Calls that ran out of time.", |stats| stats.timeouts),
            ("leanclaw_plugin_restarts_total", "Resident instances that were built anew.", |stats| stats.restarts),
            ("leanclaw_plugin_egress_denied_total", "Denied outgoing requests.", |stats| stats.egress_denied),
        ];
        for (name, help, figure) in counters {
            page.head(name, "counter", help);
            for plugin in &self.plugins {
                let labels = [("plugin", plugin.id.as_str()), ("account", plugin.account.as_str())];
                page.line(name, &labels, figure(&plugin.stats));
            }
        }
        page.text
    }
}

/// The text format, as it is written.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, &[], value);
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _infallible = writeln!(self.text, "{name}{labels} {value}");
    }
}

/// Memory of this process that is in use, where the system tells it in `/proc`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scraper_gets_text() {
        for (accept, text) in [
            ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", true),
            ("text/plain", true),
            ("*/*", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_text(&headers), text, "{accept}");
        }
        assert!(!wants_text(&HeaderMap::new()));
    }

    #[test]
    fn labels_cannot_break_out() {
        let mut page = Page::default();
        page.line("x", &[("a", "b\"} 1\nevil 2\\")], 3);
        assert_eq!(page.text, "x{a=\"b\\\"} 1\\nevil 2\\\\\"} 3\n");
    }
}
