//! `rustup target add`, for toolchains that rustup manages.

use std::time::Duration;

use anyhow::{Result, bail};

use super::TARGET;
use crate::repository::Repository;
use crate::toolchain::Toolchain;
use crate::ui;

/// rustup retries on its own; a machine cut off from its server must still come to the next way.
const LIMIT: Duration = Duration::from_secs(180);

/// Asks rustup for the target.
pub(super) fn add(repository: &Repository, toolchain: &Toolchain) -> Result<()> {
    let Some(name) = toolchain.rustup_name() else {
        bail!("the toolchain in {} is not one of rustup's", toolchain.sysroot().display());
    };
    ui::say(&format!("{TARGET}: trying `rustup target add`"));
    let mut command = repository.command("rustup");
    command.env_remove("RUSTUP_TOOLCHAIN").args(["target", "add", "--toolchain", &name, TARGET]);
    ui::run_quietly(repository, &mut command, "rustup target add", LIMIT)
}
