//! `log`: written at once, also while the call hangs.

use leanclaw_wasm::Limited;

use crate::bindings::imports::log::{Host, Output};
use crate::logs::{Level, cut};
use crate::state::{InstanceState, call_id};

/// Fields kept of one line.
const MAX_FIELDS: usize = 32;

impl InstanceState {
    /// Writes a line of the running call, cut to the length of one; says whether the call had one left.
    pub(crate) fn write_line(&mut self, level: Level, source: &str, text: &str) -> bool {
        let call = call_id(self.frame.call);
        let limiter = self.limiter();
        let line_bytes = limiter.limits().log_line_bytes;
        if limiter.admit_log_line() {
            self.shared.logs.write(level, source, &call, cut(text, line_bytes));
            return true;
        }
        if limiter.log_lines_dropped() == 1 {
            let message = "log limit of this call reached; later lines are dropped";
            self.shared.logs.write(Level::Warn, "host", &call, message);
        }
        false
    }
}

impl Host for InstanceState {
    fn write(&mut self, level: String, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.enter()?;
        let line_bytes = self.limiter().limits().log_line_bytes;
        let mut text = cut(&message, line_bytes).to_owned();
        for (name, value) in fields.iter().take(MAX_FIELDS) {
            text.push(' ');
            text.push_str(cut(name, 64));
            text.push('=');
            text.push_str(cut(value, line_bytes));
        }
        self.write_line(Level::from_guest(&level), "log", &text);
        Ok(())
    }

    fn print(
        &mut self,
        to: Output,
        count: u8,
        b0: u64,
        b1: u64,
        b2: u64,
        b3: u64,
        b4: u64,
        b5: u64,
        b6: u64,
        b7: u64,
    ) -> wasmtime::Result<()> {
        // Not counted among the host calls, as what goes through WASI's outputs is not: a program that prints
        // does so in small pieces, and its lines are counted.
        let bytes: [[u8; 8]; 8] = [b0, b1, b2, b3, b4, b5, b6, b7].map(u64::to_le_bytes);
        let bytes = bytes.as_flattened();
        let pipe = match to {
            Output::Stdout => self.pipe().stdout(),
            Output::Stderr => self.pipe().stderr(),
        };
        pipe.take(bytes.get(..usize::from(count)).unwrap_or(bytes));
        Ok(())
    }
}
