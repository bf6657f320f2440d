//! What became of a plugin whose files were changed, as the running program sees it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use leanclaw_types::plugin::{PluginInfo, PluginState};
use leanclaw_types::{AccountId, PluginId};
use tokio::net::TcpStream;

use crate::admin::{self, Online, PluginAdmin as _};
use crate::author::folder::Placed;
use crate::config::Config;
use crate::locate::Named;
use crate::report::Advice;
use crate::{lock, output};

/// How often the program is asked whether it has seen a new plugin, and how long.
const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(15);

/// Where a plugin stands after its files were changed.
#[derive(Debug)]
pub(super) enum Stands {
    /// As the running program says.
    Known(Box<PluginInfo>),
    /// No program runs.
    NothingRuns,
    /// A program runs and looks elsewhere.
    NotSeen,
}

impl Stands {
    pub(super) fn info(&self) -> Option<&PluginInfo> {
        match self {
            Self::Known(info) => Some(info),
            Self::NothingRuns | Self::NotSeen => None,
        }
    }
}

/// Waits until the running program, if there is one, has looked at what was placed.
pub(super) async fn after_swap(config: &Config, named: Named, id: &PluginId, placed: &Placed) -> Result<Stands> {
    match admin::running_here(config, named, admin::TIMEOUT).await? {
        None => Ok(Stands::NothingRuns),
        Some(mut online) => {
            let seen = seen(&mut online, id, &placed.path);
            output::noted(seen, "The running program is loading it ...").await
        }
    }
}

/// Warns when the program at the configured address is not the one that will notice what this command does.
pub(super) async fn warn_if_elsewhere(config: &Config, named: Named) -> Result<()> {
    let address = config.gateway.listen_address();
    if admin::is_elsewhere(config, named)? && TcpStream::connect(address).await.is_ok() {
        let data_dir = config.data_dir.display();
        output::warning(&format!(
            "what runs at {address} has another data directory; this is done for {data_dir} (--data-dir names another)"
        ));
    }
    Ok(())
}

/// Refuses to change files where the program that runs with this data directory does not look.
pub(super) fn check_folder(config: &Config) -> Result<()> {
    let (own, data_dir) = (&config.plugins.dir, config.data_dir.display());
    match lock::plugin_dir(&config.data_dir) {
        Some(theirs) if !same_place(&theirs.to_string_lossy(), own) => {
            let message = format!(
                "the program that runs with {data_dir} takes plugins from {}, and this command from {}",
                theirs.display(),
                own.display()
            );
            let hint = format!("add --plugin-dir {}, or set LEANCLAW_PLUGIN_DIR to it", theirs.display());
            Err(Advice::new(message).hint(hint).into())
        }
        _ => Ok(()),
    }
}

/// As [`after_swap`], of a program that is known.
pub(super) async fn seen(online: &mut Online, id: &PluginId, path: &Path) -> Result<Stands> {
    let asked_since = tokio::time::Instant::now();
    loop {
        let known =
            online.list().await?.plugins.into_iter().find(|info| &info.id == id && same_place(&info.path, path));
        if known.as_ref().is_some_and(|info| info.state != PluginState::Loading) {
            // It may not have noticed the change yet; this has it look, and answers when it has.
            let plugins = online.reload(Some(id)).await?.plugins;
            let own = plugins.into_iter().find(|info| info.account == AccountId::default());
            return Ok(own.map_or(Stands::NotSeen, |info| Stands::Known(Box::new(info))));
        }
        if known.is_none() && asked_since.elapsed() > PATIENCE {
            return Ok(Stands::NotSeen);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn same_place(shown: &str, path: &Path) -> bool {
    let shown = Path::new(shown);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    shown == path || real(shown) == real(path)
}
