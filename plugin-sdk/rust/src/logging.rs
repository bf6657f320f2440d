//! The `log` crate's macros, written to the plugin's log at once, also while a call hangs.

use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};

use crate::host;

struct HostLogger;

static LOGGER: HostLogger = HostLogger;

/// The logger behind `log`'s macros. [`export!`](crate::export) and the test host install it; call this only to wrap it
/// in a logger of one's own.
#[must_use]
pub fn logger() -> &'static dyn Log {
    &LOGGER
}

/// Makes [`logger`] the logger of `log`, unless there is one. What is shown is the host's choice, so all levels pass.
pub(crate) fn install() {
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}

impl Log for HostLogger {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut fields = Fields(vec![("target".to_owned(), record.target().to_owned())]);
        // Collecting never fails; a source that does loses its fields, not the line.
        let _ = record.key_values().visit(&mut fields);
        host::log_write(&record.level().as_str().to_ascii_lowercase(), &record.args().to_string(), fields.0);
    }

    fn flush(&self) {}
}

struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}
