//! The few files of an agent's workspace that clients may read and write, by name; all of it may be looked through
//! ([`browse`]).
//!
//! What an agent runs may write to the same folder, so nothing that lies there is followed: a folder on the way that is a
//! link, and a file that is no plain file, are refused. Every step is taken from the open folder before it, so that nothing
//! can be exchanged between a look and what follows from it. Everything here blocks.

mod browse;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

pub(crate) use browse::{Place, Seen};

/// The files there may be, in the order in which they are listed.
pub(crate) const FILES: [&str; 8] =
    ["AGENTS.md", "SOUL.md", "TOOLS.md", "IDENTITY.md", "USER.md", "HEARTBEAT.md", "BOOTSTRAP.md", "MEMORY.md"];

/// The most bytes of one file.
pub(crate) const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The workspace of one agent.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The folder of all agents.
    root: PathBuf,
    agent: String,
}

/// A file as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) bytes: u64,
    pub(crate) changed_at_ms: u64,
}

impl Workspace {
    /// The workspace of the agent with that id, which is one that exists: ids hold nothing that leads elsewhere.
    pub(crate) fn of(root: &Path, agent: &str) -> Self {
        Self { root: root.to_owned(), agent: agent.to_owned() }
    }

    /// Where it is, whether it is there or not.
    pub(crate) fn path(&self) -> PathBuf {
        self.root.join(&self.agent).join("workspace")
    }

    /// What is known of a file; none when it is not there.
    ///
    /// # Errors
    /// It is no plain file, or cannot be looked at.
    pub(crate) fn look(&self, name: &str) -> io::Result<Option<Found>> {
        let Some(folder) = self.open(false)? else { return Ok(None) };
        Ok(open_plain(&folder, name)?.map(|(_, found)| found))
    }

    /// A file's content; none when it is not there. What is not UTF-8 in it is replaced.
    ///
    /// # Errors
    /// As [`Self::look`]; it is larger than [`MAX_FILE_BYTES`].
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<(Found, String)>> {
        let read = self.bytes(&Place::default(), name)?;
        Ok(read.map(|(found, content)| (found, String::from_utf8_lossy(&content).into_owned())))
    }

    /// Writes a file whole, or leaves it as it is. It is on disk when this returns.
    ///
    /// # Errors
    /// A folder on the way is a link, the content is too large, or the disk refuses.
    pub(crate) fn write(&self, name: &str, content: &str) -> io::Result<Found> {
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("the content has more than {MAX_FILE_BYTES} bytes")));
        }
        let folder = self.open(true)?.ok_or(io::ErrorKind::NotFound)?;
        let staged = format!(".{name}.{}", uuid::Uuid::new_v4());
        let written = (|| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&folder, &staged, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            // A link that lies there is replaced, not followed.
            renameat(&folder, &staged, &folder, name)?;
            File::from(folder.try_clone()?).sync_all()?;
            plain(&file, name)
        })();
        if written.is_err() {
            // Nothing is there when it could not even be made.
            let _ = unlinkat(&folder, &staged, AtFlags::empty());
        }
        written
    }

    /// Moves the agent's folder into the bin beside the agents; the path it had, and whether it was there.
    ///
    /// # Errors
    /// It cannot be moved.
    pub(crate) fn discard(&self, at_ms: u64) -> io::Result<(PathBuf, bool)> {
        let folder = self.root.join(&self.agent);
        let Some(root) = step(&CWD, &self.root, &self.root, false)? else { return Ok((folder, false)) };
        match statat(&root, &self.agent, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok((folder, false)),
            other => drop(other?),
        }
        let trash =
            step(&root, Path::new(".trash"), &self.root.join(".trash"), true)?.ok_or(io::ErrorKind::NotFound)?;
        renameat(&root, &self.agent, &trash, format!("{}-{at_ms}", self.agent))?;
        Ok((folder, true))
    }

    /// The open workspace; none when it is not there and is not to be made.
    fn open(&self, make: bool) -> io::Result<Option<OwnedFd>> {
        let Some(root) = step(&CWD, &self.root, &self.root, make)? else { return Ok(None) };
        let Some(agent) = step(&root, Path::new(&self.agent), &self.root.join(&self.agent), make)? else {
            return Ok(None);
        };
        step(&agent, Path::new("workspace"), &self.path(), make)
    }
}

/// The folder of that name in an open one, itself opened. One that is made is closed to others.
fn step(from: &impl std::os::fd::AsFd, name: &Path, shown: &Path, make: bool) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if make {
        match mkdirat(from, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match openat(from, name, flags, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(io::Error::other(format!("{} is no folder", shown.display()))),
        Err(error) => Err(error.into()),
    }
}

/// A plain file in an open folder, itself opened; none when it is not there.
fn open_plain(folder: &OwnedFd, name: &str) -> io::Result<Option<(File, Found)>> {
    // Opening waits for nobody, whatever lies there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        // A link, or a socket.
        Err(Errno::LOOP | Errno::NXIO) => return Err(no_plain_file(name)),
        Err(error) => return Err(error.into()),
    };
    let found = plain(&file, name)?;
    Ok(Some((file, found)))
}

fn no_plain_file(name: &str) -> io::Error {
    io::Error::other(format!("{name} is no plain file"))
}

fn plain(file: &File, name: &str) -> io::Result<Found> {
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(no_plain_file(name));
    }
    let changed = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Found { bytes: found.len(), changed_at_ms: u64::try_from(changed.as_millis()).unwrap_or(u64::MAX) })
}
