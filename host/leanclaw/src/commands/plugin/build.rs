//! `leanclaw plugin build`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::author::build::{Built, Project};
use crate::author::examine::shown_bytes;
use crate::config::Config;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The plugin's folder
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Config, arguments: &Build) -> Result<()> {
    let project = Project::open(&arguments.path)?;
    let built = build(&project, config)?;
    if arguments.json { output::json(&built) } else { output::text(&shown(&built)) }
}

/// Builds, saying what runs: some builds are silent for many seconds.
pub(super) fn build(project: &Project, config: &Config) -> Result<Built> {
    output::note(&format!("Building {}: {}", project.manifest.id, project.shown_command()));
    project.build(&config.build)
}

pub(super) fn shown(built: &Built) -> String {
    let Built { id, version, file, bytes, .. } = built;
    format!("{id} {version}: {} ({}, its manifest included)", file.display(), shown_bytes(*bytes))
}
