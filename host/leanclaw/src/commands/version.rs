//! `leanclaw version`.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if arguments.json {
        return output::json(&json!({ "name": "leanclaw", "version": version }));
    }
    output::text(&format!("leanclaw v{version}"))
}
