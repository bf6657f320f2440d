//! `leanclaw start`: settings, log, data directory, lock, signals; then the program itself.

use anyhow::{Context as _, Result};

use super::resolve;
use crate::config::Flags;
use crate::data_dir::{self, Prepared};
use crate::{lock, shutdown, telemetry};

pub(crate) fn run(flags: Flags) -> Result<()> {
    let resolution = resolve(flags)?;
    let config = resolution.config;
    telemetry::init(&config)?;
    for warning in &resolution.warnings {
        tracing::warn!("{warning}");
    }
    if let Prepared::Tightened { from_mode } = data_dir::prepare(&config.data_dir)? {
        let path = config.data_dir.display();
        tracing::warn!(%path, "other users could read the data directory (mode {from_mode:o}); its mode is now 700");
    }
    let _lock = lock::acquire(&config.data_dir)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime could be made")?;
    runtime.block_on(async {
        let shutdown = shutdown::on_signals().context("signals cannot be listened to")?;
        crate::run::run(config, shutdown).await
    })
}
