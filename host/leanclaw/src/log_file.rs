//! The log on disk: `logs/leanclaw.log` in the data directory, one JSON object per line.
//!
//! A line has the shape that the real clients read: `"0"` names the part of the program (as JSON in a text), `"1"` is the
//! message, `"2"` holds the fields, `_meta` the level and `time` the moment. The file belongs to its owner alone, and
//! when it is full it becomes `leanclaw.log.1` and a new one begins: at most two files, each of bounded size.
//!
//! Only the program that holds the data directory writes here. Until it holds it, the first lines wait in memory; a
//! command never gives them a file.

use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Size at which the file is replaced, in bytes.
const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;
/// Most characters of one message or field.
const MAX_TEXT: usize = 8 * 1024;
/// Most lines that wait for the file.
const MAX_WAITING: usize = 200;

/// The log file of a data directory.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("logs").join("leanclaw.log")
}

/// Writes the log to a file, once it has one.
#[derive(Debug, Clone)]
pub struct LogFile {
    sink: Arc<Mutex<Sink>>,
}

#[derive(Debug)]
enum Sink {
    Waiting(Vec<String>),
    Open(Open),
    /// It could not be replaced and is not written any more.
    Lost,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    size: u64,
    max_bytes: u64,
}

impl Default for LogFile {
    fn default() -> Self {
        Self { sink: Arc::new(Mutex::new(Sink::Waiting(Vec::new()))) }
    }
}

impl LogFile {
    /// Opens the file and writes what waited for it. Call it once this process holds the data directory.
    ///
    /// # Errors
    /// The file cannot be made or opened.
    pub fn open(&self, data_dir: &Path) -> io::Result<()> {
        self.open_bounded(&path(data_dir), MAX_FILE_BYTES)
    }

    fn open_bounded(&self, path: &Path, max_bytes: u64) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut open = Open::at(path.to_owned(), max_bytes)?;
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if let Sink::Waiting(lines) = &mut *sink {
            for line in std::mem::take(lines) {
                open.write(&line)?;
            }
        }
        *sink = Sink::Open(open);
        Ok(())
    }

    fn write(&self, line: String) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *sink {
            Sink::Waiting(lines) if lines.len() < MAX_WAITING => lines.push(line),
            Sink::Waiting(_) | Sink::Lost => {}
            // A full disk loses lines here and nowhere else: the same line goes to standard error.
            Sink::Open(open) => {
                if open.write(&line).is_err() && open.is_full() {
                    *sink = Sink::Lost;
                }
            }
        }
    }
}

impl Open {
    fn at(path: PathBuf, max_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        // One that was there may have been opened to others since.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, max_bytes })
    }

    fn is_full(&self) -> bool {
        self.size >= self.max_bytes
    }

    /// Writes a line with one call, so that no reader sees half of one for long.
    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.is_full() {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::rename(&self.path, old)?;
            *self = Self::at(self.path.clone(), self.max_bytes)?;
        }
        self.file.write_all(line.as_bytes())?;
        self.size += u64::try_from(line.len()).unwrap_or(0);
        Ok(())
    }
}

impl<S: Subscriber> Layer<S> for LogFile {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.write(line(*metadata.level(), metadata.target(), fields, &Timestamp::now().to_string()));
    }
}

/// One line, with its end.
fn line(level: Level, target: &str, fields: Fields, time: &str) -> String {
    let part = fields.part.as_deref().unwrap_or(target);
    let name = json!({ "subsystem": part.replace("::", "/") }).to_string();
    let mut shown = Map::new();
    shown.insert("0".into(), name.clone().into());
    shown.insert("1".into(), fields.message.into());
    if !fields.others.is_empty() {
        shown.insert("2".into(), Value::Object(fields.others));
    }
    shown.insert("_meta".into(), json!({ "name": name, "date": time, "logLevelName": level.as_str() }));
    shown.insert("time".into(), time.into());
    let mut line = Value::Object(shown).to_string();
    line.push('\n');
    line
}

/// What an event says.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    /// The plugin that says it, where one does.
    part: Option<String>,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let value = match value {
            Value::String(text) => Value::String(bounded(text)),
            other => other,
        };
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("plugin", Value::String(text)) => {
                self.part = Some(format!("plugins/{text}"));
                self.others.insert("plugin".into(), Value::String(text));
            }
            (name, value) => drop(self.others.insert(name.to_owned(), value)),
        }
    }
}

fn bounded(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _infallible = write!(text, "{value:?}");
        self.put(field, Value::String(text));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leanclaw_types::redact::Secret;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn lines_have_the_shape_that_clients_read() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogFile::default();
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
        tracing::info!(target: "leanclaw::run", port = 7, token = %Secret::new("hunter2"), "before it is open");
        log.open(folder.path()).unwrap();
        tracing::warn!(target: "leanclaw_plugin::actor", plugin = "notes", "two\nlines");
        let file = path(folder.path());
        let lines = lines(&file);
        assert_eq!(lines.len(), 2, "{lines:?}");
        let part: Value = serde_json::from_str(lines[0]["0"].as_str().unwrap()).unwrap();
        assert_eq!(part, json!({"subsystem": "leanclaw/run"}));
        assert_eq!((lines[0]["1"].as_str(), lines[0]["2"]["port"].as_u64()), (Some("before it is open"), Some(7)));
        assert_eq!(lines[0]["2"]["token"], "[redacted]");
        assert_eq!(lines[0]["_meta"]["logLevelName"], "INFO");
        assert_eq!(lines[0]["_meta"]["date"], lines[0]["time"]);
        assert!(lines[0]["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
        assert_eq!(lines[1]["0"], "{\"subsystem\":\"plugins/notes\"}");
        assert_eq!(lines[1]["1"], "two\nlines");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_full_file_makes_room_and_two_are_all_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = path(folder.path());
        let log = LogFile::default();
        log.open_bounded(&file, 100).unwrap();
        for number in 0..100 {
            log.write(format!("{{\"1\":\"line {number}\"}}\n"));
        }
        let names: Vec<_> =
            fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(fs::metadata(&file).unwrap().len() < 130);
        assert_eq!(lines(&file).last().unwrap()["1"], "line 99");
        // A later start goes on with the same file.
        let again = LogFile::default();
        again.write("{\"1\":\"again\"}\n".to_owned());
        again.open_bounded(&file, 1_000_000).unwrap();
        assert_eq!(lines(&file).last().unwrap()["1"], "again");
    }

    #[test]
    fn what_never_gets_a_file_takes_no_memory() {
        let log = LogFile::default();
        for _ in 0..10_000 {
            log.write("x\n".to_owned());
        }
        let sink = log.sink.lock().unwrap();
        assert!(matches!(&*sink, Sink::Waiting(lines) if lines.len() == MAX_WAITING));
    }
}
