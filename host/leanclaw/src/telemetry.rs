//! Sets up the log: lines for people or JSON, to standard error, in the configured time zone, and JSON to a file
//! ([`crate::log_file`]).
//!
//! The level counts for this project's own crates and for what plugins say; of libraries only warnings and errors are shown, unless everything
//! is asked for (`trace`). Libraries that see what goes over the wire never show more: it holds tokens and keys. Text
//! that comes from guests or clients is escaped by whoever logs it.

use std::fmt;
use std::io;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use crate::config::{Config, LogFormat, LogLevel};
use crate::log_file::LogFile;
use crate::output;

/// A log was set up before.
#[derive(Debug, thiserror::Error)]
#[error("the log is set up already")]
pub struct AlreadySetUp;

/// Sets up the log of this process.
///
/// The lines go to the log file as well, once it is opened.
///
/// # Errors
/// [`AlreadySetUp`] on a second call.
pub fn init(config: &Config) -> Result<LogFile, AlreadySetUp> {
    let file = LogFile::default();
    let (level, handle) = reload::Layer::new(filter(config.log.level));
    let registry = tracing_subscriber::registry().with(level).with(file.clone());
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_timer(Clock(config.time_zone.clone()));
    let result = match config.log.format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_ansi(false)).try_init(),
        LogFormat::Pretty => registry.with(layer.with_ansi(output::has_colours())).try_init(),
    };
    result.map_err(|_| AlreadySetUp)?;
    // Only the log that was set up has a level that counts.
    let _ = LEVEL.set(handle);
    Ok(file)
}

/// The level of this process's log.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Logs at that level from now on; whether it is another than before. Nothing happens in a process without a log.
pub(crate) fn set_level(level: LogLevel) -> bool {
    let wanted = filter(level);
    let Some(handle) = LEVEL.get() else { return false };
    if handle.clone_current().as_ref() == Some(&wanted) {
        return false;
    }
    handle.reload(wanted).inspect_err(|error| tracing::warn!(%error, "the level of the log cannot be changed")).is_ok()
}

fn filter(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Silent => LevelFilter::OFF,
    };
    let theirs = if level == LogLevel::Trace { ours } else { ours.min(LevelFilter::WARN) };
    let wire = WIRE_LIBRARIES.iter().map(|library| (*library, ours.min(LevelFilter::WARN)));
    Targets::new()
        .with_default(theirs)
        .with_targets(wire)
        .with_target("leanclaw", ours)
        .with_target(leanclaw_plugin::LOG_TARGET, ours)
}

/// Libraries that handle messages, headers and keys as they are sent; some log them whole.
const WIRE_LIBRARIES: [&str; 8] =
    ["tungstenite", "tokio_tungstenite", "hyper", "hyper_util", "h2", "rustls", "tokio_rustls", "wasmtime_wasi_http"];

/// Writes the time of a log line in a zone.
struct Clock(TimeZone);

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", Timestamp::now().to_zoned(self.0.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"))
    }
}

/// A time for people: to the second, in a zone.
pub(crate) fn shown_time(at_ms: u64, zone: &TimeZone) -> String {
    let time = i64::try_from(at_ms).ok().and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok());
    time.map_or_else(
        || format!("{at_ms} ms"),
        |time| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn libraries_are_quiet_unless_everything_is_asked_for() {
        let debug = filter(LogLevel::Debug);
        assert!(debug.would_enable("leanclaw_plugin::actor", &Level::DEBUG));
        assert!(!debug.would_enable("hyper::proto", &Level::INFO));
        assert!(debug.would_enable("hyper::proto", &Level::WARN));
        assert!(filter(LogLevel::Trace).would_enable("wasmtime::runtime", &Level::TRACE));
        assert!(!filter(LogLevel::Silent).would_enable("leanclaw", &Level::ERROR));
        assert!(!filter(LogLevel::Error).would_enable("hyper", &Level::WARN));
    }

    /// Without it a plugin's `log`, stdout and stderr would be in `plugin logs` only.
    #[test]
    fn what_plugins_say_is_shown_at_our_level() {
        let info = filter(LogLevel::Info);
        assert!(info.would_enable(leanclaw_plugin::LOG_TARGET, &Level::INFO));
        assert!(!info.would_enable(leanclaw_plugin::LOG_TARGET, &Level::DEBUG));
        assert!(filter(LogLevel::Debug).would_enable(leanclaw_plugin::LOG_TARGET, &Level::DEBUG));
        assert!(!filter(LogLevel::Warn).would_enable(leanclaw_plugin::LOG_TARGET, &Level::INFO));
        assert!(!filter(LogLevel::Silent).would_enable(leanclaw_plugin::LOG_TARGET, &Level::ERROR));
    }

    #[test]
    fn what_goes_over_the_wire_is_never_logged() {
        for library in WIRE_LIBRARIES {
            assert!(!filter(LogLevel::Trace).would_enable(library, &Level::INFO), "{library}");
            assert!(filter(LogLevel::Trace).would_enable(library, &Level::WARN), "{library}");
            assert!(!filter(LogLevel::Silent).would_enable(library, &Level::ERROR), "{library}");
        }
        assert!(!filter(LogLevel::Trace).would_enable("tungstenite::protocol", &Level::TRACE));
    }

    #[test]
    fn times_are_shown_in_the_zone() {
        let zone = TimeZone::posix("XYZ-2").unwrap();
        assert_eq!(shown_time(0, &zone), "1970-01-01 02:00:00+02:00");
        assert_eq!(shown_time(u64::MAX, &zone), format!("{} ms", u64::MAX));
    }
}
