//! The agent on standard input and output.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(not(target_family = "wasm"))]
    {
        // Before anything else: no tool may ever run beside a process that it can look into.
        if leanclaw_agent::keep_private().is_err() {
            return ExitCode::FAILURE;
        }
        leanclaw_agent::reap_if_first();
    }
    leanclaw_agent::run(&mut leanclaw_agent::Stdio::open());
    ExitCode::SUCCESS
}
