//! Looking through a workspace: the folders and files that lie in it, whoever made them.
//!
//! As for the files that clients may write, nothing is followed, and every step is taken from the open folder before it.

use std::fmt;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;

use super::{Found, MAX_FILE_BYTES, Reached, Workspace, WorkspaceError, enter, is_plain, open_plain, too_large};

/// Folders that a path may lead through.
const MAX_DEPTH: usize = 64;
/// Bytes of one name, as file systems have it.
const MAX_NAME_BYTES: usize = 255;
/// Entries of a folder that is still listed.
const MAX_ENTRIES: usize = 100_000;

/// Where something lies in a workspace: the names that lead there, with a `/` between them. None of them leads up or
/// elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place(String);

impl Place {
    /// The place a path names; none when it could name anything outside. The empty one is the workspace itself.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let is_name =
            |name: &str| !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES && !name.contains('\0');
        let fits = path.split('/').take(MAX_DEPTH + 1).count() <= MAX_DEPTH && path.split('/').all(is_name);
        (path.is_empty() || fits).then(|| Self(path.to_owned()))
    }

    /// The folder it lies in and its name there; none of the workspace itself.
    pub(crate) fn split_last(&self) -> Option<(Self, String)> {
        let (folder, name) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        (!name.is_empty()).then(|| (Self(folder.to_owned()), name.to_owned()))
    }

    /// What has that name in it.
    pub(crate) fn join(&self, name: &str) -> Self {
        Self(if self.0.is_empty() { name.to_owned() } else { format!("{self}/{name}") })
    }

    /// The folders on the way to it and it itself, each by its name and as a place.
    fn steps(&self) -> impl Iterator<Item = (&str, &str)> {
        let ends = self.0.match_indices('/').map(|(at, _)| at).chain((!self.0.is_empty()).then_some(self.0.len()));
        ends.filter_map(|end| {
            let place = self.0.get(..end)?;
            Some((place.rsplit_once('/').map_or(place, |(_, name)| name), place))
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Something in a folder: a file, or else another folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) file: Option<Found>,
}

impl Workspace {
    /// What lies in a folder: at most `limit` from `offset` on, folders first, each kind by name; and how much there is in
    /// all. Links, pipes and the like are no part of it, nor is what has no name in UTF-8. What may not be read is told of all
    /// the same: no file is opened. None when the folder is not there; a workspace that is not made yet is empty.
    ///
    /// # Errors
    /// A step on the way is no folder, there is too much in it, or the disk refuses.
    pub(crate) fn list(&self, place: &Place, offset: usize, limit: usize) -> Reached<Option<(Vec<Seen>, usize)>> {
        let Some(folder) = self.folder(place)? else {
            return Ok(place.0.is_empty().then(|| (Vec::new(), 0)));
        };
        let mut all = names(&folder, &self.shown(place))?;
        all.sort_unstable();
        let mut total = all.len();
        let mut seen = Vec::new();
        for (is_file, name) in all.into_iter().skip(offset).take(limit) {
            if !is_file {
                seen.push(Seen { name, file: None });
                continue;
            }
            match statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if is_plain(&stat) => seen.push(Seen { name, file: Some(Found::of(&stat)) }),
                // It went, or something else took its place: it does not count either, or who asks for page after page
                // would never be done.
                Ok(_) | Err(Errno::NOENT) => total -= 1,
                Err(error) => return Err(WorkspaceError::of(place.join(&name))(error.into())),
            }
        }
        Ok(Some((seen, total)))
    }

    /// The bytes of a plain file; none when it is not there.
    ///
    /// # Errors
    /// It is no plain file or larger than [`MAX_FILE_BYTES`], a step on the way is no folder, or the disk refuses.
    pub(crate) fn bytes(&self, folder: &Place, name: &str) -> Reached<Option<(Found, Vec<u8>)>> {
        let place = folder.join(name);
        let Some(folder) = self.folder(folder)? else { return Ok(None) };
        let Some((file, found)) = open_plain(&folder, name, &place)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(WorkspaceError::of(&place))?;
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(too_large(place));
        }
        Ok(Some((found, content)))
    }

    fn folder(&self, place: &Place) -> Reached<Option<OwnedFd>> {
        let Some(mut folder) = self.open()? else { return Ok(None) };
        for (name, shown) in place.steps() {
            let Some(next) = enter(&folder, Path::new(name), shown)? else { return Ok(None) };
            folder = next;
        }
        Ok(Some(folder))
    }

    /// A place as people know it; the workspace itself by its whole path.
    fn shown(&self, place: &Place) -> String {
        if place.0.is_empty() { self.path().display().to_string() } else { place.to_string() }
    }
}

/// What lies in a folder: whether it is a file, and its name.
fn names(folder: &OwnedFd, shown: &str) -> Reached<Vec<(bool, String)>> {
    let failed = |error: Errno| WorkspaceError::of(shown)(error.into());
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let kind = match entry.file_type() {
            FileType::Unknown => match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            },
            known => known,
        };
        match kind {
            FileType::Directory if name != "." && name != ".." => names.push((false, name.to_owned())),
            FileType::RegularFile => names.push((true, name.to_owned())),
            _ => continue,
        }
        if names.len() > MAX_ENTRIES {
            return Err(WorkspaceError::Refused(format!(
                "{shown} holds more than {MAX_ENTRIES} entries, which are the most that are listed"
            )));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_nowhere_else() {
        for path in ["a", "a/b.txt", "..a/b..", "a b/ç"] {
            assert_eq!(Place::of(path).unwrap().to_string(), path);
        }
        let deep = Place::of("a/b/c").unwrap();
        assert_eq!(deep.steps().collect::<Vec<_>>(), [("a", "a"), ("b", "a/b"), ("c", "a/b/c")]);
        assert_eq!(deep.split_last(), Some((Place::of("a/b").unwrap(), "c".to_owned())));
        assert_eq!(Place::default().join("a").join("b"), Place::of("a/b").unwrap());
        assert_eq!((Place::default().split_last(), Place::default().steps().count()), (None, 0));
        for path in ["/", "/etc", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0"] {
            assert_eq!(Place::of(path), None, "{path:?}");
        }
        assert!(
            Place::of(&["x"; MAX_DEPTH].join("/")).is_some() && Place::of(&["x"; MAX_DEPTH + 1].join("/")).is_none()
        );
        assert!(Place::of(&"x".repeat(MAX_NAME_BYTES + 1)).is_none());
    }
}
