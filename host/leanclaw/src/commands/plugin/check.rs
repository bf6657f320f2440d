//! `leanclaw plugin check`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::author::bundle::Bundle;
use crate::author::examine::Examination;
use crate::config::Config;
use crate::output;
use crate::report::Advice;

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The plugin's folder or its .wasm
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, arguments: &Check) -> Result<()> {
    let bundle = Bundle::open(&arguments.path)?;
    let looking = Examination::of(&bundle, config);
    let found = output::noted(looking, "Compiling the component ...").await;
    if arguments.json {
        output::json(&found)?;
    } else {
        output::text(&found.page())?;
    }
    if found.ok {
        return Ok(());
    }
    Err(Advice::new(format!("this host would not run `{}`", found.id)).into())
}
