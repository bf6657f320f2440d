//! `log`: written at once, also while the call hangs.

use leanclaw_wasm::Limited;

use crate::bindings::imports::log::Host;
use crate::logs::{Level, cut};
use crate::state::{InstanceState, call_id};

/// Fields kept of one line.
const MAX_FIELDS: usize = 32;

impl Host for InstanceState {
    fn write(&mut self, level: String, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.enter()?;
        let limiter = self.limiter();
        let line_bytes = limiter.limits().log_line_bytes;
        let call = call_id(self.frame.call);
        if !self.limiter().admit_log_line() {
            if self.limiter().log_lines_dropped() == 1 {
                self.shared.logs.write(
                    Level::Warn,
                    "host",
                    &call,
                    "log limit of this call reached; later lines are dropped",
                );
            }
            return Ok(());
        }
        let mut text = cut(&message, line_bytes).to_owned();
        for (name, value) in fields.iter().take(MAX_FIELDS) {
            text.push(' ');
            text.push_str(cut(name, 64));
            text.push('=');
            text.push_str(cut(value, line_bytes));
        }
        self.shared.logs.write(Level::from_guest(&level), "log", &call, cut(&text, line_bytes));
        Ok(())
    }
}
