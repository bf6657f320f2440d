//! Which gateway a command talks to, and talking to it.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use leanclaw_types::redact::Secret;
use serde_json::Value;

use super::{block_on, configure};
use crate::client::{ClientError, GatewayClient, Target};
use crate::config::{Config, Flags};
use crate::locate::{self, Named, Place};
use crate::output;

/// How long to wait where the command line does not say.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The gateway that a command is meant for.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Address of the gateway instead of the configured one
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Token instead of LEANCLAW_GATEWAY_API_KEY (other users of this machine can see it while the command runs)
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Milliseconds to wait for the connection, and again for the response [default: 30000, of settings 120000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout: Option<u64>,
}

/// What every command takes that asks a gateway one thing and shows the answer.
#[derive(Debug, Args)]
pub(crate) struct Plain {
    #[command(flatten)]
    gateway: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Plain {
    /// Calls a method and shows its result: as JSON, or with `show`, which gets it and the zone in which times are shown.
    pub(crate) fn call(
        self,
        flags: Flags,
        method: &str,
        params: Value,
        show: impl FnOnce(&Value, &TimeZone) -> Result<()>,
    ) -> Result<()> {
        let talk = async |client: &mut GatewayClient| Ok(client.request(method, Some(params)).await?);
        self.talk(flags, talk, show)
    }

    /// Runs `talk` on one connection and shows what it comes back with: as JSON, or with `show`, which gets it and the zone
    /// in which times are shown.
    pub(crate) fn talk(
        self,
        flags: Flags,
        talk: impl AsyncFnOnce(&mut GatewayClient) -> Result<Value>,
        show: impl FnOnce(&Value, &TimeZone) -> Result<()>,
    ) -> Result<()> {
        let found = self.gateway.find(flags)?;
        let payload = block_on(async {
            let mut client = found.connect().await?;
            let payload = talk(&mut client).await?;
            client.close().await;
            Ok(payload)
        })?;
        if self.json { output::json(&payload) } else { show(&payload, &found.config.time_zone) }
    }
}

/// The arguments of a command that lists when it is given no command of its own.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct OrList<C: Subcommand, L: Args> {
    #[command(subcommand)]
    command: Option<C>,
    #[command(flatten)]
    list: L,
}

impl<C: Subcommand, L: Args> OrList<C, L> {
    /// The command that is meant; `list` makes it of the arguments for listing.
    pub(crate) fn command(self, list: impl FnOnce(L) -> C) -> C {
        self.command.unwrap_or_else(|| list(self.list))
    }
}

/// A gateway that was found, not yet connected.
#[derive(Debug)]
pub(crate) struct Found {
    /// The settings of this command.
    pub(crate) config: Config,
    target: Target,
    timeout: Duration,
}

impl Which {
    /// Whether the command line itself says that a gateway is to be asked, for a command that can do without one: it names
    /// its address, or what is to be shown to it.
    pub(crate) fn is_named(&self, flags: &Flags) -> bool {
        self.url.is_some() || self.token.is_some() || flags.name_the_gateway()
    }

    /// How long to wait for the connection, and again for the response.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_millis)
    }

    /// Finds the gateway: the one that is named, else the one that runs with this data directory, else the configured one.
    pub(crate) fn find(self, flags: Flags) -> Result<Found> {
        let named = Named::by(&flags);
        let timeout = self.timeout().unwrap_or(TIMEOUT);
        let config = configure(flags)?;
        let target = match self.url.as_deref() {
            Some(url) => Target::named(&config, url)?,
            None => match locate::find(&config, named)? {
                Place::Running(target, _) | Place::Perhaps(target) => target,
                Place::Stored => Target::configured(&config)?,
            },
        };
        let target = match self.token.filter(|token| !token.is_empty()) {
            Some(token) => target.with_token(Secret::new(token), "--token"),
            None => target,
        };
        Ok(Found { config, target, timeout })
    }
}

impl Found {
    /// The same, waiting that long for the connection, and again for each response.
    pub(crate) fn waiting(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<GatewayClient, ClientError> {
        self.connect_with(&[]).await
    }

    /// Connects and says what this command can show.
    pub(crate) async fn connect_with(&self, caps: &[&str]) -> Result<GatewayClient, ClientError> {
        GatewayClient::connect_with(&self.target, self.timeout, caps).await
    }

    /// The gateway's address, `ws://...`.
    pub(crate) fn url(&self) -> &str {
        self.target.url()
    }

    /// How long to wait for each response.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}
