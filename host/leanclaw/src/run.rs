//! The running program: stores, plugins, gateway; started in that order and stopped in the other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use leanclaw_gateway::{Auth, Doorman, Gateway, GatewayConfig, Services, check_bind};
use leanclaw_plugin::Mode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, GatewayAuth, Sources};
use crate::wiring::{self, PluginGateway, SettingsFile};
use crate::{lock, log_file};

/// How long loading plugins may take and still be part of the start.
const LOADING_PATIENCE: Duration = Duration::from_secs(120);
/// Time after which everything that only starts has started.
const START_LASTS: Duration = Duration::from_millis(300);

/// The gateway's address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl BindError {
    /// What to do about it.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let port = "--port or LEANCLAW_GATEWAY_PORT names another port, 0 takes any free one";
        match self.source.kind() {
            io::ErrorKind::AddrInUse => vec![format!("another program listens there; {port}")],
            io::ErrorKind::PermissionDenied => vec![format!("ports below 1024 are for the system; {port}")],
            _ => vec![
                "--host or LEANCLAW_GATEWAY_HOST must be an address of this machine; `loopback` and `lan` always are"
                    .to_owned(),
            ],
        }
    }
}

/// Runs LeanClaw until `shutdown` is cancelled. `sources` is what `config` was resolved from.
///
/// # Errors
/// Something the program cannot do without is not there: the address, the stores, the engine.
pub async fn run(config: Config, sources: Sources, shutdown: CancellationToken) -> Result<()> {
    let gateway_config = gateway_config(&config);
    let address = config.gateway.listen_address();
    // Refused before anything is opened: an open address must not be listened on for a moment.
    check_bind(address, &gateway_config.auth)?;
    let listener = TcpListener::bind(address).await.map_err(|source| BindError { address, source })?;
    // So that commands find the program whatever it was started with.
    let listens = listener.local_addr()?;
    lock::publish(&config.data_dir, listens, &config.plugins.dir)?;
    // Opening the stores may take long, with a large log to fold in or a schema to migrate: whoever comes then hears so.
    let doorman = Doorman::post(listener, &gateway_config.limits);
    let parts = wiring::open(&config, Mode::Serving)?;
    parts.egress.refuse_listener(listens);
    ensure_folder(&config);
    // Serving begins while plugins are still being looked for: whoever has to be asked counts from the first call.
    parts.plugins.expect_guards().await?;

    let (store, kv) = (Arc::clone(&parts.store), Arc::clone(&parts.kv));
    let joined = Arc::new(PluginGateway { plugins: parts.plugins.clone(), store, kv });
    let looked = Arc::new(AtomicBool::new(false));
    let agents = wiring::agents(&config, &parts)?;
    let mut services = Services::new(joined.clone(), joined.clone(), joined.clone(), joined, Arc::new(agents.clone()));
    services.readiness = wiring::readiness(&parts, &agents, &looked);
    let settings = SettingsFile::new(sources).serving(parts.plugins.clone(), Arc::clone(&parts.section));
    services.settings = Some(Arc::new(settings));
    services.agents_dir = Some(config.data_dir.join("agents"));
    services.rest = Some(Arc::new(|| {
        let code_bytes = leanclaw_wasm::forget_code();
        tracing::debug!(code_bytes, "nobody is connected; code that only clients need is no longer mapped");
    }));
    services.log_file = Some(log_file::path(&config.data_dir));
    let gateway = Gateway::open(gateway_config, services).await?;
    // Before anybody can ask for a run; whoever comes then hears of what becomes of what was taken on before.
    agents.resume().await;
    let listener = doorman.relieve().await?;

    let stop_plugins = CancellationToken::new();
    let plugins = parts.plugins.clone();
    let loading = tokio::spawn({
        let stop = stop_plugins.clone();
        async move {
            plugins.start(stop).await;
            looked.store(true, Ordering::Release);
            // Loading what lies there is a part of the start as well, unless it takes very long.
            let _ = tokio::time::timeout(LOADING_PATIENCE, plugins.settled()).await;
            // The gateway's own start goes on beside this one.
            tokio::time::sleep(START_LASTS).await;
            let code_bytes = leanclaw_wasm::forget_code();
            tracing::debug!(code_bytes, "started; code that only the start needed is no longer mapped");
        }
    });
    let announcing = tokio::spawn({
        let (plugins, agents, shutdown) = (parts.plugins.clone(), agents.clone(), shutdown.clone());
        async move {
            shutdown.cancelled().await;
            plugins.announce_end();
            agents.announce_end();
        }
    });
    let served = leanclaw_gateway::serve(listener, gateway, shutdown).await;
    // The gateway has drained its calls; what plugins do on their own account ends now.
    stop_plugins.cancel();
    loading.abort();
    announcing.abort();
    agents.close().await;
    parts.close().await;
    served?;
    tracing::info!("stopped");
    Ok(())
}

fn gateway_config(config: &Config) -> GatewayConfig {
    let mut gateway = GatewayConfig::new(env!("CARGO_PKG_VERSION"));
    gateway.auth = match &config.gateway.auth {
        GatewayAuth::Open => Auth::default(),
        GatewayAuth::Token(token) => Auth { token: Some(token.clone()), ..Auth::default() },
        GatewayAuth::Password(password) => Auth { password: Some(password.clone()), ..Auth::default() },
    };
    gateway.hooks.clone_from(&config.gateway.hooks);
    gateway.auth.role = config.gateway.access.role;
    gateway.auth.named.clone_from(&config.gateway.access.users);
    gateway.live = wiring::live(config);
    gateway
}

/// Makes the plugin folder, so that it can be watched. Without it the program still serves.
fn ensure_folder(config: &Config) {
    let folder = &config.plugins.dir;
    if let Err(error) = crate::author::folder::make(folder) {
        tracing::warn!(folder = %folder.display(), %error, "the plugin folder cannot be made; no plugin will be loaded");
    }
}
