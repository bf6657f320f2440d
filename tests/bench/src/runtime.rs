//! The plugin runtime as the program uses it, in this process, on services in memory.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use leanclaw_egress::{Egress, SystemResolver};
use leanclaw_plugin::{CallContext, EgressWatch, Mode, Plugins, PluginsOptions, Recycling};
use leanclaw_types::Caller;
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::PluginState;
use leanclaw_wasm::{EngineSettings, Wasm};
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::memory::Memory;

/// A running plugin runtime.
pub(crate) struct Runtime {
    pub(crate) plugins: Plugins,
    pub(crate) wasm: Wasm,
    folder: TempDir,
    stop: CancellationToken,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Runtime {
    /// A runtime over a folder that `install` fills; everything in it is granted and ready. Compiled code is kept in
    /// `cache` from run to run.
    pub(crate) async fn new(cache: &Path, install: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        install(folder.path())?;
        private_folder(cache)?;
        let settings = EngineSettings { cache_dir: Some(cache.to_owned()), ..EngineSettings::default() };
        let wasm = Wasm::new(settings)?;
        let (memory, services) = Memory::services();
        let watch = EgressWatch::new(memory, Arc::clone(&services.clock));
        let egress = Egress::new(Arc::new(SystemResolver::default()), watch.clone());
        let plugins = Plugins::new(PluginsOptions {
            wasm: wasm.clone(),
            egress,
            watch,
            services,
            folder: Some(folder.path().to_owned()),
            mode: Mode::Serving,
            recycling: Recycling::default(),
        });
        let stop = CancellationToken::new();
        plugins.start(stop.clone()).await;
        let admin = Caller::host("bench");
        for info in plugins.list() {
            let change = GrantChange { all: true, items: Vec::new() };
            let info = plugins.grant(&admin, &info.id.as_str().parse()?, &change).await.map_err(anyhow::Error::msg)?;
            if info.state != PluginState::Ready {
                bail!("{} is {}: {}", info.id, info.state.as_str(), info.reason);
            }
        }
        Ok(Self { plugins, wasm, folder, stop })
    }

    /// One call of a method, as the gateway makes it for a connection.
    pub(crate) async fn call(&self, method: &str, caller: &Arc<Caller>) -> Result<String> {
        let context = CallContext::of(Arc::clone(caller));
        self.plugins.call_method(method, "{}", context).await.map_err(anyhow::Error::msg)
    }

    /// The component of an installed plugin.
    pub(crate) fn component(&self, id: &str) -> Result<Vec<u8>> {
        std::fs::read(self.folder.path().join(id).join("plugin.wasm")).context("an installed component is gone")
    }
}

fn private_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).context("the cache folder cannot be made")
}
