//! The target's standard library, built from Debian's source package of exactly this compiler version.
//!
//! Works on Debian only, through the mirror the system itself is configured with. The system's apt is asked for that
//! mirror and its connection settings; its state, lists and sources are neither used nor changed, so no root is needed
//! beyond the right to write to the toolchain. The library is built the way Rust's own build does it: cargo on
//! `library/sysroot`, with the source package's lock file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{TARGET, Unavailable, move_into_place, staging};
use crate::repository::Repository;
use crate::toolchain::Toolchain;
use crate::ui;

const DOWNLOAD_LIMIT: Duration = Duration::from_secs(900);
const UNPACK_LIMIT: Duration = Duration::from_secs(600);
const BUILD_LIMIT: Duration = Duration::from_secs(1800);
/// Suites that may carry an exact version, those with small indexes first; `true` marks the security archive.
const SUITES: &[(&str, bool)] = &[
    ("trixie-backports", false),
    ("bookworm-security", true),
    ("trixie", false),
    ("sid", false),
    ("experimental", false),
];
const KEYRINGS: &[&str] =
    &["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
/// The system's own settings that a download may depend on: proxies, certificates, a wrong clock.
const CONNECTION_SETTINGS: &[&str] =
    &["Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date"];
const CRT_AND_LIBC: &[&str] = &["crt1-command.o", "crt1-reactor.o", "libc.a"];

/// A package file known to work, for when the indexes have moved on but the archive still holds the file.
struct Pin {
    package: &'static str,
    release: &'static str,
    path: &'static str,
    sha256: &'static str,
}

const PINS: &[Pin] = &[
    Pin {
        package: "rust-src",
        release: "1.95.0",
        path: "pool/main/r/rustc/rust-src_1.95.0+dfsg1-2~bpo13+1_all.deb",
        sha256: "7b76db5b880a77f9e52975d2baa6209d2f76d2c9c2789515c3088cb960e2c83b",
    },
    Pin {
        package: "wasi-libc",
        release: "",
        path: "pool/main/w/wasi-libc/wasi-libc_0.0~git20260129.ec0effd-3~bpo13+1_all.deb",
        sha256: "45eb80a2d4dcf7fe54c8e5c5d6a3cd165a3682fccc124c46f7abc6255c9b1bce",
    },
];

/// Builds and installs the library; says which package it came from.
pub(super) fn install(repository: &Repository, toolchain: &Toolchain) -> Result<String> {
    let mirror = Mirror::of_this_system(repository)?;
    ui::say(&format!("{TARGET}: building the standard library from Debian's source (about 50 MB, about a minute)"));
    let work = repository.state_folder().join("debian-std");
    if work.exists() {
        std::fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    let apt = PrivateApt::create(repository, work.join("apt"), mirror)?;
    let (source, libc) = fetch(&apt, toolchain)?;
    let library = work.join("library");
    unpack(repository, &source, &library, 5, &["./usr/src/*/library/*"], &["*/library/vendor"])?;
    unpack(repository, &libc, &work.join("wasi"), 3, &["./usr/lib/wasm32-*"], &[])?;
    let built = build(repository, toolchain, &library, &work)?;
    put_in_place(toolchain, &built, &work.join("wasi").join(TARGET))?;
    let origin = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // 200 MB that nobody needs again.
    let _ = std::fs::remove_dir_all(&work);
    Ok(origin)
}

/// The source of exactly this compiler version and a C library for the target: from the indexes, else pinned.
fn fetch(apt: &PrivateApt<'_>, toolchain: &Toolchain) -> Result<(PathBuf, PathBuf)> {
    let (mut source, mut libc) = (None, None);
    let mut reached = false;
    for (suite, security) in SUITES {
        if apt.use_suite(suite, *security).is_err() {
            continue;
        }
        reached = true;
        for package in ["rust-src", "rust-web-src"] {
            if source.is_none() {
                let exact = |version: &str| is_of_release(version, toolchain.release());
                source = apt.download(package, suite, exact)?;
            }
        }
        if libc.is_none() {
            libc = apt.download("wasi-libc", suite, knows_wasip2)?;
        }
        if source.is_some() && libc.is_some() {
            break;
        }
    }
    let source = source.or_else(|| apt.download_pinned("rust-src", toolchain.release()));
    let libc = libc.or_else(|| apt.download_pinned("wasi-libc", ""));
    match (source, libc) {
        (Some(source), Some(libc)) => Ok((source, libc)),
        _ if !reached => Err(unavailable("the system's Debian mirror cannot be reached")),
        (None, _) => Err(unavailable(&format!("no suite of the mirror carries rust-src {}", toolchain.release()))),
        (_, None) => Err(unavailable("no suite of the mirror carries a wasi-libc for wasm32-wasip2")),
    }
}

fn unavailable(reason: &str) -> anyhow::Error {
    Unavailable(reason.to_owned()).into()
}

/// `1.95.0+dfsg1-2` is of release `1.95.0`, `1.95.01-1` is not.
fn is_of_release(version: &str, release: &str) -> bool {
    version.strip_prefix(release).is_some_and(|rest| rest.starts_with(['+', '-', '~']))
}

/// wasi-libc has a folder for wasip2 since 2024; its versions are dates.
fn knows_wasip2(version: &str) -> bool {
    match version.strip_prefix("0.0~git") {
        Some(date) => date.get(..4).and_then(|year| year.parse::<u32>().ok()).is_some_and(|year| year >= 2024),
        None => !version.starts_with("0."),
    }
}

/// Where this system gets Debian packages from.
struct Mirror {
    main: String,
    security: String,
}

impl Mirror {
    fn of_this_system(repository: &Repository) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg-deb", "tar"] {
            if ui::capture(repository.command(program).arg("--version")).is_err() {
                return Err(unavailable(&format!("`{program}` is not installed")));
            }
        }
        let targets =
            ui::capture(repository.command("apt-get").args(["indextargets", "--format", "$(LABEL) $(REPO_URI)"]));
        Self::among(&targets.unwrap_or_default())
            .ok_or_else(|| unavailable("apt is not configured with a Debian mirror"))
    }

    /// Picks from lines of `LABEL URI`; the label is empty while a list has not been downloaded.
    fn among(targets: &str) -> Option<Self> {
        let uris: Vec<&str> = targets
            .lines()
            .filter_map(|line| line.split_whitespace().last())
            .map(|uri| uri.trim_end_matches('/'))
            .collect();
        let main = *uris.iter().find(|uri| uri.ends_with("/debian"))?;
        let security = uris.iter().find(|uri| uri.ends_with("/debian-security"));
        Some(Self {
            main: main.to_owned(),
            security: security.map_or_else(|| format!("{main}-security"), |uri| (*uri).to_owned()),
        })
    }
}

/// An apt with a state, cache and sources of its own.
struct PrivateApt<'a> {
    repository: &'a Repository,
    folder: PathBuf,
    keyring: &'static str,
    mirror: Mirror,
}

impl<'a> PrivateApt<'a> {
    fn create(repository: &'a Repository, folder: PathBuf, mirror: Mirror) -> Result<Self> {
        let keyring = KEYRINGS.iter().find(|path| Path::new(path).is_file());
        let keyring = keyring
            .ok_or_else(|| unavailable("Debian's archive keys are not installed (package debian-archive-keyring)"))?;
        for part in ["state/lists/partial", "cache/archives/partial", "etc/none", "packages"] {
            std::fs::create_dir_all(folder.join(part))
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        std::fs::write(folder.join("state/status"), "")?;
        let settings = ui::capture(repository.command("apt-config").arg("dump")).unwrap_or_default();
        std::fs::write(folder.join("apt.conf"), configuration(&folder, &settings))?;
        Ok(Self { repository, folder, keyring, mirror })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.repository.command(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf")).current_dir(self.folder.join("packages"));
        command
    }

    fn use_suite(&self, suite: &str, security: bool) -> Result<()> {
        let uri = if security { &self.mirror.security } else { &self.mirror.main };
        let line = format!("deb [signed-by={}] {uri} {suite} main\n", self.keyring);
        std::fs::write(self.folder.join("etc/sources.list"), line)?;
        let mut update = self.command("apt-get");
        // Without this a failed download of an index still ends in success.
        update.args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]);
        ui::run_quietly(self.repository, &mut update, &format!("reading the index of {suite}"), DOWNLOAD_LIMIT)
    }

    /// Downloads the first version in the current suite that `wanted` takes.
    fn download(&self, package: &str, suite: &str, wanted: impl Fn(&str) -> bool) -> Result<Option<PathBuf>> {
        let listing = ui::capture(self.command("apt-cache").args(["madison", package])).unwrap_or_default();
        let mut versions = listing.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
        let Some(version) = versions.find(|version| wanted(version)) else { return Ok(None) };
        ui::say(&format!("  {package} {version} from {suite}"));
        let mut download = self.command("apt-get");
        download.args(["-q", "download", &format!("{package}={version}")]);
        ui::run_quietly(self.repository, &mut download, &format!("downloading {package}"), DOWNLOAD_LIMIT)?;
        let prefix = format!("{package}_");
        let mut files = std::fs::read_dir(self.folder.join("packages"))?.flatten().map(|entry| entry.path());
        Ok(files.find(|path| path.file_name().unwrap_or_default().to_string_lossy().starts_with(&prefix)))
    }

    /// Downloads a pinned file by its path in the archive; apt compares the hash.
    fn download_pinned(&self, package: &str, release: &str) -> Option<PathBuf> {
        let pin = PINS.iter().find(|pin| pin.package == package && pin.release == release)?;
        ui::say(&format!("  {package} from the mirror's pool (no index lists it any more)"));
        let file = self.folder.join("packages").join(Path::new(pin.path).file_name()?);
        let mut download = self.command(APT_HELPER);
        download.arg("download-file").arg(format!("{}/{}", self.mirror.main, pin.path)).arg(&file);
        download.arg(format!("SHA256:{}", pin.sha256));
        match ui::run_quietly(self.repository, &mut download, &format!("downloading {package}"), DOWNLOAD_LIMIT) {
            Ok(()) => Some(file),
            Err(error) => {
                ui::say(&format!("  {error:#}"));
                None
            }
        }
    }
}

/// The private apt's configuration; `system` is the system's, of which only the connection settings are taken.
fn configuration(folder: &Path, system: &str) -> String {
    let own = format!(
        "Dir::State \"{folder}/state\";\nDir::State::status \"{folder}/state/status\";\nDir::Cache \"{folder}/cache\";\n\
         Dir::Etc::sourcelist \"{folder}/etc/sources.list\";\nDir::Etc::sourceparts \"{folder}/etc/none\";\n\
         Dir::Etc::preferencesparts \"{folder}/etc/none\";\nDir::Etc::parts \"{folder}/etc/none\";\n\
         Acquire::Languages \"none\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         Acquire::Retries \"3\";\nAPT::Sandbox::User \"root\";\n",
        folder = folder.display()
    );
    let connection = system.lines().filter(|line| CONNECTION_SETTINGS.iter().any(|setting| line.starts_with(setting)));
    connection.fold(own, |text, line| text + line + "\n")
}

/// Unpacks the members of a package that match `wanted`, without the first `strip` folders of their names.
fn unpack(
    repository: &Repository,
    package: &Path,
    into: &Path,
    strip: u32,
    wanted: &[&str],
    unwanted: &[&str],
) -> Result<()> {
    std::fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let mut archive =
        repository.command("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let mut tar = repository.command("tar");
    tar.arg("-x").arg("-C").arg(into).arg(format!("--strip-components={strip}")).arg("--wildcards");
    tar.args(wanted).args(unwanted.iter().map(|pattern| format!("--exclude={pattern}")));
    let content = archive.stdout.take().context("dpkg-deb has no output")?;
    let name = package.file_stem().unwrap_or_default().to_string_lossy();
    let unpacked = ui::feed_quietly(repository, &mut tar, content.into(), &format!("unpacking {name}"), UNPACK_LIMIT);
    // Without a reader it ends as well.
    let read = archive.wait()?;
    unpacked?;
    if !read.success() {
        bail!("dpkg-deb cannot read {} ({read})", package.display());
    }
    Ok(())
}

/// Builds std; returns the folder with its `.rlib` files.
fn build(repository: &Repository, toolchain: &Toolchain, library: &Path, work: &Path) -> Result<PathBuf> {
    let target = work.join("target");
    let mut cargo = toolchain.cargo(repository);
    for name in ["CARGO_BUILD_TARGET", "CARGO_ENCODED_RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    cargo.current_dir(library).args([
        "build",
        "--locked",
        "--profile",
        "dist",
        "--manifest-path",
        "sysroot/Cargo.toml",
    ]);
    cargo.args(["--target", TARGET, "--features", "backtrace panic-unwind"]);
    // std may use unstable features of its own compiler; programs built with the result may not.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("__CARGO_DEFAULT_LIB_METADATA", "leanclaw").env("CARGO_TARGET_DIR", &target);
    let remap = format!("--remap-path-prefix={}=/rustc/{}/library", library.display(), toolchain.release());
    cargo.env("RUSTFLAGS", format!("-Zforce-unstable-if-unmarked -Cdebuginfo=0 {remap}"));
    ui::run_quietly(repository, &mut cargo, "building the standard library", BUILD_LIMIT)?;
    Ok(target.join(TARGET).join("dist/deps"))
}

fn put_in_place(toolchain: &Toolchain, built: &Path, libc: &Path) -> Result<()> {
    let staged = staging(toolchain)?;
    let lib = staged.join("lib");
    let self_contained = lib.join("self-contained");
    std::fs::create_dir_all(&self_contained)?;
    for entry in std::fs::read_dir(built).with_context(|| format!("cannot list {}", built.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // libsysroot only ties the others together.
        if name.ends_with(".rlib") && !name.starts_with("libsysroot-") {
            std::fs::copy(&path, lib.join(&name))?;
        }
    }
    for name in CRT_AND_LIBC {
        std::fs::copy(libc.join(name), self_contained.join(name))
            .with_context(|| format!("wasi-libc brought no {name}"))?;
    }
    move_into_place(toolchain, &staged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_matched_whole() {
        assert!(is_of_release("1.95.0+dfsg1-2~bpo13+1", "1.95.0"));
        assert!(is_of_release("1.95.0-1", "1.95.0"));
        assert!(!is_of_release("1.95.01-1", "1.95.0"));
        assert!(!is_of_release("1.94.0-1", "1.95.0"));
        assert!(knows_wasip2("0.0~git20260129.ec0effd-3~bpo13+1"));
        assert!(!knows_wasip2("0.0~git20230113.4362b18-2"));
        assert!(!knows_wasip2("0.0~gi"));
        assert!(knows_wasip2("27-1"));
    }

    #[test]
    fn the_mirror_comes_from_the_system() {
        let configured = "Debian-Security http://mirror.test/debian-security/\nDebian http://mirror.test/debian/\n";
        let mirror = Mirror::among(configured).unwrap();
        assert_eq!(
            (mirror.main.as_str(), mirror.security.as_str()),
            ("http://mirror.test/debian", "http://mirror.test/debian-security")
        );
        let derived = Mirror::among(" http://mirror.test/debian/\n").unwrap();
        assert_eq!(derived.security, "http://mirror.test/debian-security");
        assert!(Mirror::among("Ubuntu http://mirror.test/ubuntu/\n").is_none());
        assert!(Mirror::among("").is_none());
    }

    #[test]
    fn only_connection_settings_are_taken_from_the_system() {
        let text = configuration(
            Path::new("/w"),
            "APT::Update::Post-Invoke:: \"rm -rf x\";\nAcquire::http::Proxy \"http://p:1\";\n",
        );
        assert!(text.contains("Acquire::http::Proxy \"http://p:1\";"));
        assert!(!text.contains("Post-Invoke"));
        assert!(text.contains("Dir::State \"/w/state\";"));
    }
}
