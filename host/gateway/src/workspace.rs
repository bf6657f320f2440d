//! The few files of an agent's workspace that clients may read and write, by name; all of it may be looked through
//! ([`browse`]).
//!
//! What an agent runs may write to the same folder, so nothing that lies there is followed: a folder on the way that is a
//! link, and a file that is no plain file, are refused. Every step is taken from the open folder before it, so that nothing
//! can be exchanged between a look and what follows from it. Everything here blocks.

mod browse;

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, fsync, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

pub(crate) use browse::{Place, Seen};

/// The files there may be, in the order in which they are listed.
pub(crate) const FILES: [&str; 8] =
    ["AGENTS.md", "SOUL.md", "TOOLS.md", "IDENTITY.md", "USER.md", "HEARTBEAT.md", "BOOTSTRAP.md", "MEMORY.md"];

/// The most bytes of one file.
pub(crate) const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What lies in an agent's folder.
const WORKSPACE: &str = "workspace";
/// The bin beside the agents.
const TRASH: &str = ".trash";

/// The workspace of one agent.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The folder of all agents.
    root: PathBuf,
    agent: String,
}

/// Why something of a workspace was not reached. The text names it, and says what to do where something can be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    /// It is not what was asked for, whenever that is asked again.
    #[error("{0}")]
    Refused(String),
    /// The system refuses.
    #[error("{path}: {source}{}", advice(source))]
    System {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl WorkspaceError {
    /// What the system says of something at that path.
    fn of(path: impl Display) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_string();
        move |source| Self::System { path, source }
    }

    /// Whether the same may go well later although nobody did anything about it.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::System { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; give it to the user that the gateway runs as (chown), or let that user read it (chmod)"
        }
        _ => "",
    }
}

type Reached<T> = Result<T, WorkspaceError>;

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
        self.root.join(&self.agent).join(WORKSPACE)
    }

    /// What is known of a file; none when it is not there.
    ///
    /// # Errors
    /// It is no plain file, or cannot be looked at.
    pub(crate) fn look(&self, name: &str) -> Reached<Option<Found>> {
        let Some(folder) = self.open()? else { return Ok(None) };
        Ok(open_plain(&folder, name, name)?.map(|(_, found)| found))
    }

    /// A file's content; none when it is not there. What is not UTF-8 in it is replaced.
    ///
    /// # Errors
    /// As [`Self::look`]; it is larger than [`MAX_FILE_BYTES`].
    pub(crate) fn read(&self, name: &str) -> Reached<Option<(Found, String)>> {
        let read = self.bytes(&Place::default(), name)?;
        Ok(read.map(|(found, content)| (found, String::from_utf8_lossy(&content).into_owned())))
    }

    /// Writes a file whole, or leaves it as it is. It is on disk when this returns.
    ///
    /// # Errors
    /// A folder on the way is a link, the content is too large, or the disk refuses.
    pub(crate) fn write(&self, name: &str, content: &str) -> Reached<Found> {
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(too_large(name));
        }
        let path = self.path().join(name);
        let folder = self.made()?;
        let staged = format!(".{name}.{}", uuid::Uuid::new_v4());
        let written: io::Result<Found> = (|| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&folder, &staged, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            // A link that lies there is replaced, not followed.
            renameat(&folder, &staged, &folder, name)?;
            fsync(&folder)?;
            Ok(Found::of(&fstat(&file)?))
        })();
        if written.is_err() {
            // Nothing is there when it could not even be made.
            let _ = unlinkat(&folder, &staged, AtFlags::empty());
        }
        written.map_err(WorkspaceError::of(path.display()))
    }

    /// Moves the agent's folder into the bin beside the agents; the path it had, and whether it was there.
    ///
    /// # Errors
    /// It cannot be moved.
    pub(crate) fn discard(&self, at_ms: u64) -> Reached<(PathBuf, bool)> {
        let folder = self.root.join(&self.agent);
        let failed = |error: Errno| WorkspaceError::of(folder.display())(error.into());
        let Some(root) = enter(&CWD, &self.root, self.root.display())? else { return Ok((folder, false)) };
        match statat(&root, &self.agent, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok((folder, false)),
            other => other.map(drop).map_err(failed)?,
        }
        let trash = make(&root, Path::new(TRASH), self.root.join(TRASH).display())?;
        renameat(&root, &self.agent, &trash, format!("{}-{at_ms}", self.agent)).map_err(failed)?;
        Ok((folder, true))
    }

    /// The open workspace; none when it is not there.
    fn open(&self) -> Reached<Option<OwnedFd>> {
        let Some(root) = enter(&CWD, &self.root, self.root.display())? else { return Ok(None) };
        let Some(agent) = enter(&root, Path::new(&self.agent), self.root.join(&self.agent).display())? else {
            return Ok(None);
        };
        enter(&agent, Path::new(WORKSPACE), self.path().display())
    }

    /// As [`Self::open`]; what is not there is made.
    fn made(&self) -> Reached<OwnedFd> {
        let root = make(&CWD, &self.root, self.root.display())?;
        let agent = make(&root, Path::new(&self.agent), self.root.join(&self.agent).display())?;
        make(&agent, Path::new(WORKSPACE), self.path().display())
    }
}

impl Found {
    fn of(stat: &Stat) -> Self {
        // What changed before 1970 changed then.
        let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let changed_at_ms = seconds.saturating_mul(1000).saturating_add(u64::from(nanoseconds / 1_000_000));
        Self { bytes: u64::try_from(stat.st_size).unwrap_or(0), changed_at_ms }
    }
}

fn is_plain(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// The folder of that name in an open one, itself opened; none when it is not there. `shown` is the path that people know it
/// by.
fn enter(from: &impl AsFd, name: &Path, shown: impl Display) -> Reached<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(from, name, flags, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            Err(WorkspaceError::Refused(format!("{shown} is no folder; no link is followed in a workspace")))
        }
        Err(error) => Err(WorkspaceError::of(shown)(error.into())),
    }
}

/// As [`enter`]; one that is not there is made, and closed to others.
fn make(from: &impl AsFd, name: &Path, shown: impl Display) -> Reached<OwnedFd> {
    match mkdirat(from, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(WorkspaceError::of(shown)(error.into())),
    }
    // Somebody may take it away again before it is opened.
    enter(from, name, &shown)?.ok_or_else(|| WorkspaceError::of(shown)(io::ErrorKind::NotFound.into()))
}

/// A plain file in an open folder, itself opened; none when it is not there. `shown` is the path that people know it by.
fn open_plain(folder: &OwnedFd, name: &str, shown: impl Display) -> Reached<Option<(File, Found)>> {
    let no_plain_file = || {
        let rule = "only plain files are read, and no link is followed";
        WorkspaceError::Refused(format!("{shown} is no plain file; {rule}"))
    };
    // Opening waits for nobody, whatever lies there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        // A link, or a socket.
        Err(Errno::LOOP | Errno::NXIO) => return Err(no_plain_file()),
        Err(error) => return Err(WorkspaceError::of(shown)(error.into())),
    };
    match fstat(&file) {
        Ok(stat) if is_plain(&stat) => Ok(Some((file, Found::of(&stat)))),
        Ok(_) => Err(no_plain_file()),
        Err(error) => Err(WorkspaceError::of(shown)(error.into())),
    }
}

fn too_large(path: impl Display) -> WorkspaceError {
    WorkspaceError::Refused(format!("{path} has more than {MAX_FILE_BYTES} bytes, which is the most of one file here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_says_where_and_what_to_do() {
        let refused = |kind: io::ErrorKind| WorkspaceError::of("notes/a")(kind.into());
        let denied = refused(io::ErrorKind::PermissionDenied);
        assert!(!denied.may_pass() && denied.to_string().starts_with("notes/a: "), "{denied}");
        assert!(denied.to_string().contains("(chown)"), "{denied}");
        let full = refused(io::ErrorKind::StorageFull);
        assert!(full.may_pass() && !full.to_string().contains("chown"), "{full}");
    }
}
