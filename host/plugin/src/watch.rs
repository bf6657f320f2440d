//! What becomes of refused outgoing requests: an audit row, a line in the plugin's log, a count.

use std::sync::{Arc, OnceLock, Weak};

use leanclaw_egress::{EgressObserver, EgressRecord, Outcome};
use leanclaw_types::PluginKey;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::clock::Clock;

use crate::logs::Level;
use crate::runtime::Inner;
use crate::services::Audit;
use crate::stats::Stats;

/// Watches egress on behalf of the plugins. Made before the way out is, and told of the plugins once they are there.
pub struct EgressWatch {
    audit: Arc<dyn Audit>,
    clock: Arc<dyn Clock>,
    plugins: OnceLock<Weak<Inner>>,
}

impl EgressWatch {
    /// A watch that writes to `audit`.
    #[must_use]
    pub fn new(audit: Arc<dyn Audit>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { audit, clock, plugins: OnceLock::new() })
    }

    pub(crate) fn attach(&self, plugins: Weak<Inner>) {
        // A second runtime over one watch would be a mistake of the program; the first one keeps it.
        let _ = self.plugins.set(plugins);
    }

    fn tell_plugin(&self, record: &EgressRecord<'_>, problem: &str, hints: &[String]) {
        let Some(plugins) = self.plugins.get().and_then(Weak::upgrade) else { return };
        let Ok(key) = record.owner.parse::<PluginKey>() else { return };
        Stats::count(&plugins.loader.stats(&key).egress_denied);
        let logs = plugins.loader.logs(&key.plugin);
        logs.write(Level::Warn, "host", "", &format!("outgoing request refused: {problem}"));
        for hint in hints {
            logs.write(Level::Warn, "host", "", &format!("hint: {hint}"));
        }
    }
}

impl EgressObserver for EgressWatch {
    fn record(&self, record: &EgressRecord<'_>) {
        let millis = record.duration.as_millis();
        let Outcome::Failed(error) = record.outcome else {
            tracing::debug!(
                owner = record.owner,
                method = record.method,
                origin = record.origin,
                millis,
                "outgoing request ended"
            );
            return;
        };
        tracing::debug!(
            owner = record.owner,
            origin = record.origin,
            millis,
            code = error.code(),
            "outgoing request failed"
        );
        if !error.is_denial() {
            return;
        }
        let hints = error.hints();
        self.tell_plugin(record, &error.to_string(), &hints);
        self.audit.audit(AuditRecord {
            at_ms: self.clock.now_ms(),
            actor: format!("plugin:{}", record.owner),
            event: AuditEvent::EgressDenied {
                plugin: record.owner.to_owned(),
                method: record.method.to_owned(),
                host: record.origin.to_owned(),
                rule: error.code().to_owned(),
                hint: hints.join("; then "),
            },
        });
    }
}
