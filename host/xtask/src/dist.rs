//! `cargo xtask dist`: the release archive and its checksum.
//!
//! The same sources and toolchain give the same bytes: sorted names, no times, no owners.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::archive::Archive;
use crate::arguments::Arguments;
use crate::fingerprint::{files_below, sha256_of_file};
use crate::repository::Repository;
use crate::toolchain::Toolchain;
use crate::{agent, plugins, setup, ui};

const COMPRESSION_LIMIT: Duration = Duration::from_secs(600);

/// Runs the command.
pub(crate) fn run(repository: &Repository, arguments: Arguments) -> Result<ExitCode> {
    arguments.finish()?;
    setup::ensure(repository)?;
    let ids = plugins::build_examples(repository)?;
    let agent = agent::build(repository)?;
    ui::say("building leanclaw (release)");
    let mut cargo = repository.cargo();
    cargo.args(["build", "--release", "--locked", "--package", "leanclaw", "--bin", "leanclaw"]);
    ui::run_visibly(&mut cargo, "building leanclaw")?;
    let program = repository.binary("release", "leanclaw");
    let triple = Toolchain::locate(repository, None)?.host().to_owned();
    let name = format!("leanclaw-{}-{triple}", env!("CARGO_PKG_VERSION"));

    // The program looks for the agent beside itself.
    let agent = (agent::FILE.to_owned(), read(&agent)?, false);
    let mut entries = vec![("leanclaw".to_owned(), read(&program)?, true), agent];
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
    let file = compress(repository, &archive.finish(), &dist.join(format!("{name}.tar")))?;
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

/// Writes the archive as `tar` and has it replaced by a compressed file, which is returned.
fn compress(repository: &Repository, bytes: &[u8], tar: &Path) -> Result<PathBuf> {
    std::fs::write(tar, bytes).with_context(|| format!("cannot write {}", tar.display()))?;
    let mut gzip = repository.command("gzip");
    // -n: neither the time nor a name goes into the header.
    gzip.arg("-9nf").arg(tar);
    ui::run_quietly(repository, &mut gzip, "compressing the archive", COMPRESSION_LIMIT)?;
    Ok(tar.with_extension("tar.gz"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_archive_tells_neither_time_nor_name() {
        let folder = std::env::temp_dir().join(format!("xtask-dist-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let tar = folder.join("x-0.1.0.tar");
        let file = compress(&Repository::locate().unwrap(), &[7; 5000], &tar).unwrap();
        assert_eq!(file, folder.join("x-0.1.0.tar.gz"));
        let bytes = std::fs::read(&file).unwrap();
        // Magic number, deflate, no optional fields such as a name; then the time.
        assert_eq!(bytes[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        assert!(bytes.len() < 500 && !tar.exists());
        let unpacked = std::process::Command::new("gzip").arg("-dc").arg(&file).output().unwrap().stdout;
        assert_eq!(unpacked, [7; 5000]);
        // A second run replaces what the first made.
        assert_eq!(std::fs::read(compress(&Repository::locate().unwrap(), &[7; 5000], &tar).unwrap()).unwrap(), bytes);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
