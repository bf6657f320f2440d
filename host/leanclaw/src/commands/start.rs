//! `leanclaw start`: settings, log, data directory, lock, signals; then the program itself.

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::sources;
use crate::config::{self, Flags};
use crate::data_dir::{self, Prepared};
use crate::{lock, log_file, shutdown, telemetry};

/// With fewer files than this a busy program may not be able to open the next one.
const FEW_FILES: u64 = 4096;

/// Lets the program open as many files as it may: connections, plugins and stores all take some.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    // None is no limit.
    if let Some(files) = current.filter(|files| *files < FEW_FILES) {
        tracing::warn!(
            files,
            "few files may be open at once; raise the hard limit (ulimit -Hn, or LimitNOFILE= of a service)"
        );
    }
}

pub(crate) fn run(flags: Flags) -> Result<()> {
    let sources = sources(flags)?;
    let resolution = config::resolve(&sources)?;
    let config = resolution.config;
    let log = telemetry::init(&config)?;
    for warning in &resolution.warnings {
        tracing::warn!("{warning}");
    }
    if let Prepared::Tightened { from_mode } = data_dir::prepare(&config.data_dir)? {
        let path = config.data_dir.display();
        tracing::warn!(%path, "other users could read the data directory (mode {from_mode:o}); its mode is now 700");
    }
    raise_open_files();
    let _lock = lock::acquire(&config.data_dir)?;
    if let Err(error) = log.open(&config.data_dir) {
        let path = log_file::path(&config.data_dir);
        tracing::warn!(path = %path.display(), %error, "the log file cannot be written; standard error has the log");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime could be made")?;
    runtime.block_on(async {
        let shutdown = shutdown::on_signals().context("signals cannot be listened to")?;
        crate::run::run(config, sources, shutdown).await
    })
}
