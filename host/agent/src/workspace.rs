//! The one way to the files of a workspace, and there is no other in this crate.
//!
//! A path is walked name by name, each opened without following links. A link is read and walked in the same way, so one that
//! stays inside works, and one that leaves is refused, also when somebody swaps it meanwhile. Refused as well: `..` that climbs
//! out, paths that begin elsewhere, NUL, and everything that is neither file nor folder. Writing goes to a new file beside the
//! old one that then takes its place, so that nobody ever sees half a file.

#[cfg_attr(not(target_family = "wasm"), path = "workspace/folder_unix.rs")]
#[cfg_attr(target_family = "wasm", path = "workspace/folder_wasm.rs")]
mod folder;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub(crate) use folder::Folder;

/// The most links that are walked for one path.
const MAX_LINKS: u32 = 32;
/// The most names in one path.
const MAX_NAMES: usize = 256;

/// What has a name in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    Other,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Why a path cannot be used. The words are for the model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathError {
    #[error("the path contains a NUL byte")]
    Nul,
    #[error("`{path}` is not inside the workspace {root}; give a path relative to it")]
    Outside { path: String, root: String },
    #[error("`{path}` has too many folders or links in it")]
    TooDeep { path: String },
    #[error("`{path}` does not exist; use `glob` to see what there is")]
    Missing { path: String },
    #[error("`{path}` is a folder; use `glob` to see what is in it")]
    IsFolder { path: String },
    #[error("`{path}` is not a folder")]
    NotFolder { path: String },
    #[error("`{path}` is neither a file nor a folder")]
    Special { path: String },
    #[error("`{path}`: {source}")]
    Io { path: String, source: io::Error },
}

/// A folder on the way, and what it is called.
struct Step {
    name: String,
    folder: Folder,
}

/// Where a path led: the folder that holds the last name, and that name. No name: it is the workspace itself.
struct Place {
    steps: Vec<Step>,
    name: Option<String>,
    kind: Option<Kind>,
}

/// The folder that a session may read and write.
#[derive(Debug)]
pub(crate) struct Workspace {
    path: PathBuf,
    shown: String,
    root: Folder,
}

impl Workspace {
    /// Opens the workspace at `path`.
    ///
    /// # Errors
    /// When it is not there, is no folder, or its path is not UTF-8.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let Some(text) = path.to_str() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"));
        };
        let shown = if text.len() > 1 { text.trim_end_matches('/') } else { text };
        Ok(Self { root: Folder::root(path)?, path: path.to_owned(), shown: shown.to_owned() })
    }

    /// Its path, as the agent and the host call it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its path without a slash at the end.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// `path` without the workspace before it.
    fn relative<'p>(&self, path: &'p str) -> Result<&'p str, PathError> {
        if path.contains('\0') {
            return Err(PathError::Nul);
        }
        if !path.starts_with('/') {
            return Ok(path);
        }
        let under = path.strip_prefix(self.shown.as_str());
        let under = under.filter(|rest| self.shown == "/" || rest.is_empty() || rest.starts_with('/'));
        under.map(|rest| rest.trim_start_matches('/')).ok_or_else(|| self.outside(path))
    }

    fn outside(&self, path: &str) -> PathError {
        PathError::Outside { path: path.to_owned(), root: self.shown.clone() }
    }

    /// Walks `path`. What is missing is made when `make` says so; the last name may be missing in any case.
    fn walk(&self, path: &str, make: bool) -> Result<Place, PathError> {
        let mut names: VecDeque<String> = self.relative(path)?.split('/').map(str::to_owned).collect();
        let mut steps: Vec<Step> = Vec::new();
        let mut links = 0_u32;
        while let Some(name) = names.pop_front() {
            if steps.len().saturating_add(names.len()) > MAX_NAMES {
                return Err(PathError::TooDeep { path: path.to_owned() });
            }
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    steps.pop().ok_or_else(|| self.outside(path))?;
                    continue;
                }
                _ => {}
            }
            let here = self.top(&steps);
            let is_last = names.iter().all(|rest| rest.is_empty() || rest == ".");
            match here.kind(&name) {
                Ok(Kind::Link) => {
                    links = links.saturating_add(1);
                    if links > MAX_LINKS {
                        return Err(PathError::TooDeep { path: path.to_owned() });
                    }
                    let target = here.link(&name).map_err(|source| io_error(path, source))?;
                    if target.starts_with('/') {
                        steps.clear();
                    }
                    let target = self.relative(&target).map_err(|_| self.outside(path))?;
                    for name in target.split('/').rev() {
                        names.push_front(name.to_owned());
                    }
                }
                Ok(kind) if is_last && kind != Kind::Folder => {
                    return Ok(Place { steps, name: Some(name), kind: Some(kind) });
                }
                Ok(_) => {
                    let folder = here.folder(&name).map_err(|source| io_error(path, source))?;
                    steps.push(Step { name, folder });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && is_last => {
                    return Ok(Place { steps, name: Some(name), kind: None });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && make => {
                    here.make(&name).map_err(|source| io_error(path, source))?;
                    names.push_front(name);
                }
                Err(source) => return Err(io_error(path, source)),
            }
        }
        Ok(Place { steps, name: None, kind: Some(Kind::Folder) })
    }

    fn top<'a>(&'a self, steps: &'a [Step]) -> &'a Folder {
        steps.last().map_or(&self.root, |step| &step.folder)
    }

    /// Opens a file for reading.
    pub(crate) fn file(&self, path: &str) -> Result<File, PathError> {
        let place = self.walk(path, false)?;
        let name = match (place.name, place.kind) {
            (Some(name), Some(Kind::File)) => name,
            (_, Some(Kind::Folder)) => return Err(PathError::IsFolder { path: path.to_owned() }),
            (_, None) => return Err(PathError::Missing { path: path.to_owned() }),
            _ => return Err(PathError::Special { path: path.to_owned() }),
        };
        let file = self.top(&place.steps).file(&name).map_err(|source| io_error(path, source))?;
        // It may have been swapped since its kind was looked at.
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(file),
            Ok(_) => Err(PathError::Special { path: path.to_owned() }),
            Err(source) => Err(io_error(path, source)),
        }
    }

    /// Opens a folder, and says how it is called from the workspace on; the workspace itself is the empty path.
    pub(crate) fn folder(&self, path: &str) -> Result<(Folder, String), PathError> {
        let mut place = self.walk(path, false)?;
        match (place.name.as_ref(), place.kind) {
            (None, _) => {}
            (Some(_), None) => return Err(PathError::Missing { path: path.to_owned() }),
            (Some(_), Some(_)) => return Err(PathError::NotFolder { path: path.to_owned() }),
        }
        let names: Vec<&str> = place.steps.iter().map(|step| step.name.as_str()).collect();
        let relative = names.join("/");
        match place.steps.pop() {
            Some(step) => Ok((step.folder, relative)),
            None => Ok((Folder::root(&self.path).map_err(|source| io_error(path, source))?, relative)),
        }
    }

    /// Whether there is a folder at `path`.
    pub(crate) fn is_folder(&self, path: &str) -> bool {
        self.walk(path, false).is_ok_and(|place| place.kind == Some(Kind::Folder))
    }

    /// Puts `bytes` into a file, making it and the folders before it. The mode of a file that was there stays.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) -> Result<(), PathError> {
        let place = self.walk(path, true)?;
        let name = match (place.name, place.kind) {
            (None, _) => return Err(PathError::IsFolder { path: path.to_owned() }),
            (Some(name), Some(Kind::File) | None) if !path.ends_with('/') => name,
            (Some(_), _) => return Err(PathError::Special { path: path.to_owned() }),
        };
        let folder = self.top(&place.steps);
        replace(folder, &name, bytes).map_err(|source| io_error(path, source))
    }
}

/// Writes beside `name` and renames over it.
fn replace(folder: &Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (mut file, temporary) = temporary(folder)?;
    let written = (|| {
        if let Ok(old) = folder.file(name).and_then(|old| old.metadata()) {
            keep_mode(&file, &old)?;
        }
        file.write_all(bytes)?;
        file.sync_data()?;
        folder.rename(&temporary, name)
    })();
    if written.is_err() {
        // What cannot be removed now is a stray file with a telling name.
        let _ = folder.remove(&temporary);
    }
    written
}

#[cfg(not(target_family = "wasm"))]
fn keep_mode(file: &File, old: &std::fs::Metadata) -> io::Result<()> {
    file.set_permissions(old.permissions())
}

#[cfg(target_family = "wasm")]
fn keep_mode(_file: &File, _old: &std::fs::Metadata) -> io::Result<()> {
    Ok(())
}

fn temporary(folder: &Folder) -> io::Result<(File, String)> {
    for number in 0..1000_u32 {
        let name = format!(".leanclaw-write-{number}.tmp");
        match folder.create_new(&name) {
            Ok(file) => return Ok((file, name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "remove the .leanclaw-write-*.tmp files in this folder"))
}

fn io_error(path: &str, source: io::Error) -> PathError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => PathError::Missing { path },
        io::ErrorKind::NotADirectory => PathError::NotFolder { path },
        io::ErrorKind::IsADirectory => PathError::IsFolder { path },
        _ => PathError::Io { path, source },
    }
}

#[cfg(test)]
mod tests;
