//! Makes the data directory, and makes sure that only its owner can read it.
//!
//! An existing directory is tightened only when it is plainly ours (empty, or with our files in it): nobody wants
//! `/tmp` or a home directory to change its mode because of a slip in a setting.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Names that show that a directory is LeanClaw's own.
const OUR_FILES: [&str; 2] = ["leanclaw.lock", "core.db"];

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made, read or tightened.
    #[error("the data directory {} cannot be {action}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// `created`, `read` or `closed to other users`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is something else of this name.
    #[error("the data directory {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Others can read it and it holds things that are not ours.
    #[error("the data directory {} holds files of others and other users can read it (mode {mode:o})", path.display())]
    Shared {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl DataDirError {
    /// What to do about it.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let other = "or name another one with LEANCLAW_DATA_DIR or --data-dir";
        match self {
            Self::Io { path, .. } => {
                vec![format!("make sure that this user owns {} and may write to its parent, {other}", path.display())]
            }
            Self::NotADirectory(path) => vec![format!("move {} away, {other}", path.display())],
            Self::Shared { path, .. } => vec![
                "name a directory of its own with LEANCLAW_DATA_DIR or --data-dir".to_owned(),
                format!("if {0} is meant for LeanClaw alone: chmod 700 {0}", path.display()),
            ],
        }
    }
}

/// What was done to the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// It was made.
    Created,
    /// It was there, closed to others.
    Ready,
    /// It was there and others could read it; now they cannot.
    Tightened {
        /// Its permission bits before.
        from_mode: u32,
    },
}

/// Makes `path` a directory that only its owner can use.
///
/// # Errors
/// [`DataDirError`] when that cannot be.
pub fn prepare(path: &Path) -> Result<Prepared, DataDirError> {
    let failed = |action| move |source| DataDirError::Io { path: path.to_owned(), action, source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("created"))?;
            // The umask may have taken the owner's own rights away, and what is ours must be usable.
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed("created"))?;
            return Ok(Prepared::Created);
        }
        Err(error) => return Err(failed("read")(error)),
    };
    if !metadata.is_dir() {
        return Err(DataDirError::NotADirectory(path.to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(Prepared::Ready);
    }
    if !is_ours(path).map_err(failed("read"))? {
        return Err(DataDirError::Shared { path: path.to_owned(), mode });
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed("closed to other users"))?;
    Ok(Prepared::Tightened { from_mode: mode })
}

fn is_ours(path: &Path) -> io::Result<bool> {
    let is_empty = fs::read_dir(path)?.next().is_none();
    Ok(is_empty || OUR_FILES.iter().any(|name| path.join(name).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn make(path: &Path, bits: u32) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
    }

    #[test]
    fn a_new_directory_is_closed_to_others() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/b");
        assert_eq!(prepare(&path).unwrap(), Prepared::Created);
        assert_eq!(mode(&path), 0o700);
        assert_eq!(prepare(&path).unwrap(), Prepared::Ready);
    }

    #[test]
    fn our_own_directory_is_tightened() {
        let temporary = tempfile::tempdir().unwrap();
        for file in [None, Some("core.db"), Some("leanclaw.lock")] {
            let path = temporary.path().join(file.unwrap_or("empty"));
            make(&path, 0o755);
            if let Some(name) = file {
                fs::write(path.join(name), "").unwrap();
            }
            assert_eq!(prepare(&path).unwrap(), Prepared::Tightened { from_mode: 0o755 });
            assert_eq!(mode(&path), 0o700);
        }
    }

    #[test]
    fn a_directory_of_others_is_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("shared");
        make(&path, 0o1777);
        fs::write(path.join("something"), "").unwrap();
        let error = prepare(&path).unwrap_err();
        assert!(matches!(error, DataDirError::Shared { mode: 0o1777, .. }), "{error}");
        assert!(error.hints()[0].contains("LEANCLAW_DATA_DIR"));
        assert_eq!(mode(&path), 0o1777, "its mode is not ours to change");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(prepare(&path).unwrap(), Prepared::Ready, "closed to others, other files may stay");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(prepare(&path), Err(DataDirError::NotADirectory(_))));
        assert!(matches!(prepare(&path.join("below")), Err(DataDirError::Io { .. })));
    }
}
