//! The few files of an agent's workspace that clients may read and write, by name.
//!
//! What an agent runs may write to the same folder, so nothing that lies there is followed: a folder on the way that is a
//! link, and a file that is no plain file, are refused. Everything here blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

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
        if !self.is_there()? {
            return Ok(None);
        }
        match fs::symlink_metadata(self.path().join(name)) {
            Ok(found) => plain(&found, name).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A file's content; none when it is not there. What is not UTF-8 in it is replaced.
    ///
    /// # Errors
    /// As [`Self::look`]; it is larger than [`MAX_FILE_BYTES`]; it is exchanged at this very moment.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<(Found, String)>> {
        if !self.is_there()? {
            return Ok(None);
        }
        let path = self.path().join(name);
        let before = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        plain(&before, name)?;
        let file = File::open(&path)?;
        let opened = file.metadata()?;
        if (opened.dev(), opened.ino()) != (before.dev(), before.ino()) {
            return Err(io::Error::other(format!("{name} is being replaced; try again")));
        }
        let mut content = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("{name} has more than {MAX_FILE_BYTES} bytes")));
        }
        Ok(Some((plain(&opened, name)?, String::from_utf8_lossy(&content).into_owned())))
    }

    /// Writes a file whole, or leaves it as it is. It is on disk when this returns.
    ///
    /// # Errors
    /// A folder on the way is a link, the content is too large, or the disk refuses.
    pub(crate) fn write(&self, name: &str, content: &str) -> io::Result<Found> {
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("the content has more than {MAX_FILE_BYTES} bytes")));
        }
        self.make()?;
        let (folder, staged) = (self.path(), self.path().join(format!(".{name}.{}", uuid::Uuid::new_v4())));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            // A link that lies there is replaced, not followed.
            fs::rename(&staged, folder.join(name))?;
            File::open(&folder)?.sync_all()
        })();
        if written.is_err() {
            // Nothing is there when it could not even be made.
            let _ = fs::remove_file(&staged);
        }
        written?;
        self.look(name)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Moves the agent's folder into the bin beside the agents; the path it had, and whether it was there.
    ///
    /// # Errors
    /// It cannot be moved.
    pub(crate) fn discard(&self, at_ms: u64) -> io::Result<(PathBuf, bool)> {
        let folder = self.root.join(&self.agent);
        let bin = self.root.join(".trash");
        match fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((folder, false)),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        make_folder(&bin)?;
        fs::rename(&folder, bin.join(format!("{}-{at_ms}", self.agent)))?;
        Ok((folder, true))
    }

    fn steps(&self) -> [PathBuf; 3] {
        [self.root.clone(), self.root.join(&self.agent), self.path()]
    }

    fn is_there(&self) -> io::Result<bool> {
        for step in self.steps() {
            match fs::symlink_metadata(&step) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(no_folder(&step)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn make(&self) -> io::Result<()> {
        self.steps().iter().try_for_each(|step| make_folder(step))
    }
}

/// Makes a folder that others may not look into, or finds that there is one.
fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(path)?.is_dir() {
                Ok(())
            } else {
                Err(no_folder(path))
            }
        }
        made => made,
    }
}

fn no_folder(path: &Path) -> io::Error {
    io::Error::other(format!("{} is no folder", path.display()))
}

fn plain(found: &fs::Metadata, name: &str) -> io::Result<Found> {
    if !found.is_file() {
        return Err(io::Error::other(format!("{name} is no plain file")));
    }
    let changed = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Found { bytes: found.len(), changed_at_ms: u64::try_from(changed.as_millis()).unwrap_or(u64::MAX) })
}
