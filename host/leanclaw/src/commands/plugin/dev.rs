//! `leanclaw plugin dev`: builds a plugin at every change of its sources and swaps it in the plugin folder.
//!
//! The running program, if there is one, does the rest: it loads the new version, keeps the old one when the new one
//! cannot run, and tells what the plugin logs. A program that is started later is found then.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use leanclaw_store::Store;
use leanclaw_types::plugin::PluginInfo;
use leanclaw_types::{AccountId, PluginId};
use tokio::time::Instant;

use super::live::{self, Stands};
use super::news::{Listener, News};
use super::{build, install, logs};
use crate::admin::{self, Online, PluginAdmin as _};
use crate::author::build::Project;
use crate::author::bundle::Bundle;
use crate::author::folder::Placed;
use crate::author::sources::Sources;
use crate::config::Config;
use crate::locate::Named;
use crate::report::{self, Report};
use crate::{data_dir, shutdown};

/// How often sources and logs are looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long sources must be at rest before they are built: editors write in several steps.
const REST: Duration = Duration::from_millis(150);
/// How often a program that does not answer is looked for.
const SEARCH_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// The plugin's folder
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Print one JSON object per line, named by its "event": changed, built, failed, placed, not-seen, state, log, watching
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, named: Named, arguments: &Dev) -> Result<()> {
    let stop = shutdown::on_signals().context("signals cannot be listened to")?;
    let mut project = Arc::new(Project::open(&arguments.path)?);
    data_dir::prepare(&config.data_dir)?;
    live::warn_if_elsewhere(config, named).await?;
    let listener = Listener { as_json: arguments.json, zone: &config.time_zone };
    let mut program = Program::of(config, named, project.manifest.id.clone(), &listener);
    let mut built = Sources::default();
    loop {
        let now = Sources::look(&project, &built);
        if now != built {
            tokio::time::sleep(REST).await;
            if Sources::look(&project, &now) != now {
                continue;
            }
            if let Some(path) = now.changed(&built).filter(|_| built != Sources::default()) {
                let path = path.strip_prefix(&project.folder).unwrap_or(path);
                listener.tell(&News::Changed { path })?;
            }
            built = now;
            match Project::open(&arguments.path) {
                Ok(opened) => {
                    project = Arc::new(opened);
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        told = program.rebuild(&project) => told?,
                    }
                }
                Err(error) => listener.tell(&News::Failed(&Report::of(&error)))?,
            }
            listener.tell(&News::Watching)?;
        }
        program.follow().await?;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// The running program, as far as there is one.
struct Program<'a> {
    config: &'a Config,
    listener: &'a Listener<'a>,
    named: Named,
    id: PluginId,
    online: Option<Online>,
    /// When it is looked for again.
    search_at: Instant,
    /// Up to where the plugin's log was shown.
    log_seq: Option<u64>,
    /// What was last said about the plugin's state.
    said: Option<String>,
    /// Whether the plugin lies in the folder.
    placed: bool,
}

impl<'a> Program<'a> {
    fn of(config: &'a Config, named: Named, id: PluginId, listener: &'a Listener<'a>) -> Self {
        let search_at = Instant::now();
        Self { config, listener, named, id, online: None, search_at, log_seq: None, said: None, placed: false }
    }

    /// Builds and swaps, and says what came of it. What fails is shown; the version before stays.
    ///
    /// # Errors
    /// Nobody can be told.
    async fn rebuild(&mut self, project: &Arc<Project>) -> Result<()> {
        self.id = project.manifest.id.clone();
        let swapped = async {
            let placed = self.build(project).await?;
            self.placed = true;
            self.settled(&placed.path).await
        };
        match swapped.await {
            Err(error) if !report::is_broken_pipe(&error) => self.listener.tell(&News::Failed(&Report::of(&error))),
            told => told,
        }
    }

    async fn build(&mut self, project: &Arc<Project>) -> Result<Placed> {
        let (own, config) = (Arc::clone(project), self.config.clone());
        let mut building = tokio::task::spawn_blocking(move || build::build(&own, &config));
        let built = loop {
            tokio::select! {
                built = &mut building => break built.context("the build was cut short")??,
                () = tokio::time::sleep(INTERVAL) => self.follow().await?,
            }
        };
        self.listener.tell(&News::Built(&built))?;
        let bundle = Bundle::read(&built.folder)?;
        let store = Store::open(&self.config.data_dir)?;
        let placed = install::put(self.config, &store, &bundle).await?;
        store.close().await;
        Ok(placed)
    }

    /// Waits until the running program has looked at the new version.
    async fn settled(&mut self, path: &Path) -> Result<()> {
        self.search(true).await;
        let Some(online) = &mut self.online else {
            return self.listener.tell(&News::Placed { id: &self.id });
        };
        match live::seen(online, &self.id, path).await? {
            Stands::Known(info) => {
                self.said = None;
                self.say(&info)
            }
            Stands::NotSeen | Stands::NothingRuns => self.listener.tell(&News::NotSeen { id: &self.id }),
        }
    }

    /// Shows what is new: the plugin's state, and what it logged.
    ///
    /// # Errors
    /// Nobody can be told.
    async fn follow(&mut self) -> Result<()> {
        self.search(false).await;
        if !self.placed || self.online.is_none() {
            return Ok(());
        }
        match self.show_news().await {
            Err(error) if report::is_broken_pipe(&error) => return Err(error),
            // It stopped, or a connection broke: it is looked for again.
            Err(_) => self.online = None,
            Ok(()) => {}
        }
        Ok(())
    }

    async fn show_news(&mut self) -> Result<()> {
        let Some(online) = &mut self.online else { return Ok(()) };
        let plugins = online.list().await?.plugins;
        let own = plugins.into_iter().find(|info| info.id == self.id && info.account == AccountId::default());
        let Some(own) = own else { return Ok(()) };
        let lines = online.logs(&self.id, self.log_seq, logs::FOLLOW_LINES).await?;
        for line in &lines {
            self.listener.tell(&News::Log(line))?;
        }
        self.log_seq = lines.last().map(|line| line.seq).or(self.log_seq);
        self.say(&own)
    }

    /// Says where the plugin stands, unless that was said.
    fn say(&mut self, info: &PluginInfo) -> Result<()> {
        let line = install::state_line(info);
        if self.said.as_ref() == Some(&line) {
            return Ok(());
        }
        self.listener.tell(&News::State { plugin: info })?;
        self.said = Some(line);
        Ok(())
    }

    /// Finds the running program, at once or when it is time.
    async fn search(&mut self, at_once: bool) {
        if self.online.is_some() || (!at_once && Instant::now() < self.search_at) {
            return;
        }
        self.search_at = Instant::now() + SEARCH_INTERVAL;
        // One that is just starting or stopping cannot be asked; the next search may find it.
        self.online = admin::running_here(self.config, self.named, admin::TIMEOUT).await.ok().flatten();
        if let Some(online) = &mut self.online {
            // What was logged before is no news.
            let newest = online.logs(&self.id, None, 1).await.unwrap_or_default();
            self.log_seq = newest.last().map(|line| line.seq);
        }
    }
}
