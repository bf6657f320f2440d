//! `cargo xtask dist`: the release archive and its checksum.
//!
//! The same sources and toolchain give the same bytes: sorted names, no times, no owners.

use std::io::Write as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::archive::Archive;
use crate::arguments::Arguments;
use crate::fingerprint::{files_below, sha256_of_file};
use crate::repository::Repository;
use crate::toolchain::Toolchain;
use crate::{plugins, setup, ui};

/// Runs the command.
pub(crate) fn run(repository: &Repository, arguments: Arguments) -> Result<ExitCode> {
    arguments.finish()?;
    setup::ensure(repository)?;
    let ids = plugins::build_examples(repository)?;
    ui::say("building leanclaw (release)");
    let mut cargo = repository.cargo();
    cargo.args(["build", "--release", "--locked", "--package", "leanclaw", "--bin", "leanclaw"]);
    ui::run_visibly(&mut cargo, "building leanclaw")?;
    let program = repository.binary("release", "leanclaw");
    let triple = Toolchain::locate(repository, None)?.host().to_owned();
    let name = format!("leanclaw-{}-{triple}", env!("CARGO_PKG_VERSION"));

    let mut entries = vec![("leanclaw".to_owned(), read(&program)?, true)];
    for file in ["LICENSE", "README.md"] {
        entries.push((file.to_owned(), read(&repository.root().join(file))?, false));
    }
    for id in ids {
        entries.extend(folder(&repository.plugins().join(&id), &format!("plugins/{id}"))?);
    }
    entries.extend(folder(&repository.wit(), "wit")?);
    entries.sort_by(|one, other| one.0.cmp(&other.0));

    let mut archive = Archive::default();
    for (path, content, executable) in &entries {
        archive.add(&format!("{name}/{path}"), content, *executable)?;
    }
    let dist = repository.target().join("dist");
    std::fs::create_dir_all(&dist).with_context(|| format!("cannot create {}", dist.display()))?;
    let file = dist.join(format!("{name}.tar.gz"));
    compress(repository, &archive.finish(), &file)?;
    let sum = format!("{}  {name}.tar.gz\n", sha256_of_file(&file)?);
    std::fs::write(dist.join(format!("{name}.tar.gz.sha256")), &sum)?;
    ui::say(&format!("{} files in {}", entries.len(), file.display()));
    ui::print(sum.trim_end());
    Ok(ExitCode::SUCCESS)
}

type Entry = (String, Vec<u8>, bool);

fn folder(path: &Path, name: &str) -> Result<Vec<Entry>> {
    let files = files_below(path)?.into_iter();
    files
        .map(|file| Ok((format!("{name}/{}", file.strip_prefix(path)?.to_string_lossy()), read(&file)?, false)))
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} is missing", path.display()))
}

fn compress(repository: &Repository, bytes: &[u8], file: &Path) -> Result<()> {
    let output = std::fs::File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    // -n: neither the time nor a name goes into the header.
    let mut command = repository.command("gzip");
    let mut gzip = command
        .arg("-9n")
        .stdin(Stdio::piped())
        .stdout(output)
        .spawn()
        .context("cannot run gzip (is it installed?)")?;
    gzip.stdin.take().context("gzip has no input")?.write_all(bytes)?;
    if !gzip.wait()?.success() {
        bail!("gzip failed");
    }
    Ok(())
}
