//! The suite `setup`: each way to provide `wasm32-wasip2`, tried for real on private copies of the toolchain.
//!
//! Every case runs the real `cargo xtask setup` as a process. rustup is made to fail by a server address where nobody
//! listens, as on a machine that is cut off. Cases that need the network or Debian say so when they cannot be run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::private_toolchain::PrivateToolchain;
use super::{Count, Outcome};
use crate::repository::Repository;
use crate::setup::{EXIT_UNAVAILABLE, PACKED_LIBRARY, packed_library};
use crate::toolchain::Toolchain;
use crate::ui::{self, Run};
use crate::wasm_target::{self, TARGET};

const LIMIT: Duration = Duration::from_secs(1800);
/// The discard port of this machine: nothing listens there, so rustup is refused at once.
const DEAD_SERVER: &str = "http://127.0.0.1:9";

/// A case passes by returning `None`; `Some` says why it cannot be run here.
type Case = (&'static str, fn(&Bench<'_>) -> Result<Option<String>>);

const CASES: &[Case] = &[
    ("rustup provides the target", by_rustup),
    ("a packed library is taken when rustup fails", by_packed_library),
    ("another compiler's packed library is refused and Debian's source is built", by_debian),
    ("without any way the error names the ways out", by_nothing),
];

/// What the cases share.
struct Bench<'a> {
    repository: &'a Repository,
    original: Toolchain,
}

/// Runs the suite.
pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let bench = Bench { repository, original: Toolchain::locate(repository, None)? };
    let mut count = Count::default();
    for (name, case) in CASES {
        let started = Instant::now();
        let outcome = case(&bench);
        let time = ui::seconds(started.elapsed());
        match outcome {
            Ok(None) => {
                count.passed += 1;
                ui::say(&format!("  {name} ... ok ({time})"));
            }
            Ok(Some(reason)) => {
                count.ignored += 1;
                ui::warn(&format!("{name}: NOT RUN: {reason}"));
            }
            Err(error) => {
                count.failed += 1;
                ui::error(&format!("{name} ... FAILED ({time}): {error:#}"));
            }
        }
    }
    let _ = std::fs::remove_dir_all(repository.state_folder().join("setup-suite"));
    Ok(Outcome::Ran(count))
}

impl Bench<'_> {
    fn copy(&self, name: &str) -> Result<PrivateToolchain> {
        PrivateToolchain::copy(self.repository, &self.original, name)
    }

    /// `cargo xtask setup` on a copy whose rustup finds no server, with an optional packed library.
    fn cut_off(&self, copy: &PrivateToolchain, packed: Option<&Path>) -> Result<Command> {
        let mut command = self.setup(copy)?;
        command.env("RUSTUP_DIST_SERVER", DEAD_SERVER).env("RUSTUP_MAX_RETRIES", "0");
        if let Some(file) = packed {
            command.env(PACKED_LIBRARY, file);
        }
        Ok(command)
    }

    fn setup(&self, copy: &PrivateToolchain) -> Result<Command> {
        let program = std::env::current_exe().context("cannot find this program's own path")?;
        let mut command = self.repository.command(program);
        command.env_remove(PACKED_LIBRARY).env_remove("RUSTUP_TOOLCHAIN").env("RUSTUP_HOME", copy.home());
        command.args(["setup", "--sysroot"]).arg(copy.sysroot());
        Ok(command)
    }

    fn finish(&self, copy: &PrivateToolchain, command: &mut Command) -> Result<Run> {
        ui::run_logged(self.repository, command, &format!("setup of {}", copy.name()), LIMIT)
    }

    /// Runs it and insists on success and on each of `texts` in the output.
    fn succeed(&self, copy: &PrivateToolchain, command: &mut Command, texts: &[&str]) -> Result<String> {
        let run = self.finish(copy, command)?;
        ensure!(run.status.is_some_and(|status| status.success()), "setup failed:\n{}", ui::excerpt(&run.output));
        expect(&run, texts)?;
        Ok(run.output)
    }

    /// A second setup must find the target and do nothing.
    fn is_settled(&self, copy: &PrivateToolchain) -> Result<()> {
        let output = self.succeed(copy, &mut self.cut_off(copy, None)?, &["ready for rustc"])?;
        ensure!(output.lines().count() == 1, "a second setup did more than look:\n{}", ui::excerpt(&output));
        Ok(())
    }

    fn rustup(&self, copy: &PrivateToolchain, verb: &str) -> Result<Run> {
        let mut command = self.repository.command("rustup");
        let name = copy.sysroot().file_name().unwrap_or_default();
        command.env_remove("RUSTUP_TOOLCHAIN").env("RUSTUP_HOME", copy.home());
        command.args(["target", verb, "--toolchain"]).arg(name).arg(TARGET);
        ui::run_logged(self.repository, &mut command, &format!("rustup target {verb}"), LIMIT)
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.repository.state_folder().join("setup-suite").join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }
}

fn expect(run: &Run, texts: &[&str]) -> Result<()> {
    match texts.iter().find(|text| !run.output.contains(**text)) {
        Some(text) => bail!("setup did not say `{text}`:\n{}", ui::excerpt(&run.output)),
        None => Ok(()),
    }
}

fn by_rustup(bench: &Bench<'_>) -> Result<Option<String>> {
    if bench.original.rustup_name().is_none() {
        return Ok(Some("the toolchain in use is not one of rustup's".to_owned()));
    }
    let copy = bench.copy("rustup")?;
    if !bench.rustup(&copy, "add")?.status.is_some_and(|status| status.success()) {
        return Ok(Some("rustup reaches no server from here".to_owned()));
    }
    let removed = bench.rustup(&copy, "remove")?;
    ensure!(
        removed.status.is_some_and(|status| status.success()),
        "rustup cannot remove the target:\n{}",
        ui::excerpt(&removed.output)
    );
    bench.succeed(&copy, &mut bench.setup(&copy)?, &["(by rustup)"])?;
    bench.is_settled(&copy)?;
    let refused = bench.finish(&copy, bench.setup(&copy)?.arg("--remove"))?;
    ensure!(!refused.status.is_some_and(|status| status.success()), "setup removed what rustup installed");
    expect(&refused, &["rustup target remove"])?;
    Ok(None)
}

fn by_packed_library(bench: &Bench<'_>) -> Result<Option<String>> {
    let packed = match packed_library()? {
        Some(file) => file,
        None => {
            let file = bench.folder("packed")?.join("std.tar");
            wasm_target::pack(bench.repository, &bench.original, &file)?;
            file
        }
    };
    let copy = bench.copy("packed-copy")?;
    let from = format!("(from {})", packed.display());
    bench.succeed(&copy, &mut bench.cut_off(&copy, Some(&packed))?, &["rustup cannot provide it", &from])?;
    bench.is_settled(&copy)?;
    bench.succeed(&copy, bench.cut_off(&copy, None)?.arg("--remove"), &["removed"])?;
    ensure!(!copy.sysroot().join("lib/rustlib").join(TARGET).exists(), "`setup --remove` left the target behind");
    Ok(None)
}

fn by_debian(bench: &Bench<'_>) -> Result<Option<String>> {
    let packed = foreign_library(bench)?;
    let copy = bench.copy("debian")?;
    let run = bench.finish(&copy, &mut bench.cut_off(&copy, Some(&packed))?)?;
    expect(&run, &["rustup cannot provide it", "is for another compiler"])?;
    match run.status.and_then(|status| status.code()) {
        Some(0) => {
            expect(&run, &["(built from rust-"])?;
            bench.is_settled(&copy)?;
            Ok(None)
        }
        Some(code) if code == i32::from(EXIT_UNAVAILABLE) => {
            let reason = run.output.lines().find_map(|line| line.trim().strip_prefix("- Debian's source: "));
            Ok(Some(reason.unwrap_or("Debian's source cannot be had").to_owned()))
        }
        _ => bail!("setup failed:\n{}", ui::excerpt(&run.output)),
    }
}

/// An archive in the right shape whose marker names a compiler that does not exist.
fn foreign_library(bench: &Bench<'_>) -> Result<PathBuf> {
    let folder = bench.folder("foreign")?;
    let library = folder.join(TARGET);
    std::fs::create_dir_all(library.join("lib"))?;
    std::fs::write(library.join("lib/libstd-0.rlib"), "")?;
    std::fs::write(library.join(".from-setup-wasm"), "commit-hash: 0000release: 0.0.0")?;
    let file = folder.join("std.tar");
    let mut tar = bench.repository.command("tar");
    ui::capture(tar.arg("-cf").arg(&file).arg("-C").arg(&folder).arg(TARGET))?;
    Ok(file)
}

fn by_nothing(bench: &Bench<'_>) -> Result<Option<String>> {
    let copy = bench.copy("nothing")?;
    let empty = bench.folder("empty-path")?;
    let run = bench.finish(&copy, bench.cut_off(&copy, None)?.env("PATH", &empty))?;
    let code = run.status.and_then(|status| status.code());
    ensure!(code == Some(i32::from(EXIT_UNAVAILABLE)), "setup ended with {code:?}:\n{}", ui::excerpt(&run.output));
    expect(&run, &["rustup target add", PACKED_LIBRARY, "--pack", "`apt-get` is not installed"])?;
    Ok(None)
}
