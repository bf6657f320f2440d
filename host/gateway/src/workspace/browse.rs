//! Looking through a workspace: the folders and files that lie in it, whoever made them.
//!
//! As for the files that clients may write, nothing is followed, and every step is taken from the open folder before it.

use std::fmt;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;

use super::{Found, MAX_FILE_BYTES, Workspace, open_plain, step};

/// Folders that a path may lead through.
const MAX_DEPTH: usize = 64;
/// Bytes of one name, as file systems have it.
const MAX_NAME_BYTES: usize = 255;
/// Entries of a folder that is still listed.
const MAX_ENTRIES: usize = 100_000;

/// Where something lies in a workspace: the names that lead there. None of them leads up or elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place(Vec<String>);

impl Place {
    /// The place a path names; none when it could name anything outside. The empty one is the workspace itself.
    pub(crate) fn of(path: &str) -> Option<Self> {
        if path.is_empty() {
            return Some(Self::default());
        }
        let is_name =
            |name: &&str| !matches!(*name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES && !name.contains('\0');
        let names: Vec<&str> = path.split('/').take(MAX_DEPTH + 1).collect();
        let fits = names.len() <= MAX_DEPTH && names.iter().all(is_name);
        fits.then(|| Self(names.into_iter().map(str::to_owned).collect()))
    }

    /// The folder it lies in and its name there; none of the workspace itself.
    pub(crate) fn split_last(&self) -> Option<(Self, String)> {
        let (name, folder) = self.0.split_last()?;
        Some((Self(folder.to_vec()), name.clone()))
    }

    /// What has that name in it.
    pub(crate) fn join(&self, name: &str) -> Self {
        let mut names = self.0.clone();
        names.push(name.to_owned());
        Self(names)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("/"))
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
    /// all. Links, pipes and the like are no part of it, nor is what has no name in UTF-8. None when the folder is not there;
    /// a workspace that is not made yet is empty.
    ///
    /// # Errors
    /// A step on the way is no folder, there is too much in it, or the disk refuses.
    pub(crate) fn list(&self, place: &Place, offset: usize, limit: usize) -> io::Result<Option<(Vec<Seen>, usize)>> {
        let Some(folder) = self.folder(place)? else {
            return Ok(place.0.is_empty().then(|| (Vec::new(), 0)));
        };
        let mut all = names(&folder)?;
        all.sort_unstable();
        let total = all.len();
        let page = all.into_iter().skip(offset).take(limit);
        let look = |(is_file, name): (bool, String)| {
            if !is_file {
                return Ok(Some(Seen { name, file: None }));
            }
            let found = open_plain(&folder, &name);
            match found {
                Ok(found) => Ok(found.map(|(_, found)| Seen { name, file: Some(found) })),
                // Another took its place meanwhile, or nobody may read it: what is known of it is its name.
                Err(error) => {
                    tracing::debug!(name, %error, "a file of a workspace is left out");
                    Ok(None)
                }
            }
        };
        let seen = page.filter_map(|entry| look(entry).transpose()).collect::<io::Result<Vec<_>>>()?;
        Ok(Some((seen, total)))
    }

    /// The bytes of a plain file; none when it is not there.
    ///
    /// # Errors
    /// It is no plain file or larger than [`MAX_FILE_BYTES`], a step on the way is no folder, or the disk refuses.
    pub(crate) fn bytes(&self, folder: &Place, name: &str) -> io::Result<Option<(Found, Vec<u8>)>> {
        let Some(folder) = self.folder(folder)? else { return Ok(None) };
        let Some((file, found)) = open_plain(&folder, name)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("{name} has more than {MAX_FILE_BYTES} bytes")));
        }
        Ok(Some((found, content)))
    }

    fn folder(&self, place: &Place) -> io::Result<Option<OwnedFd>> {
        let Some(mut folder) = self.open(false)? else { return Ok(None) };
        for name in &place.0 {
            let Some(next) = step(&folder, Path::new(name), Path::new(name), false)? else { return Ok(None) };
            folder = next;
        }
        Ok(Some(folder))
    }
}

/// What lies in a folder: whether it is a file, and its name.
fn names(folder: &OwnedFd) -> io::Result<Vec<(bool, String)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let kind = match entry.file_type() {
            FileType::Unknown => match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            },
            known => known,
        };
        match kind {
            FileType::Directory if name != "." && name != ".." => names.push((false, name.to_owned())),
            FileType::RegularFile => names.push((true, name.to_owned())),
            _ => continue,
        }
        if names.len() > MAX_ENTRIES {
            return Err(io::Error::other(format!("the folder holds more than {MAX_ENTRIES} entries")));
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
        assert_eq!(Place::of("").unwrap().split_last(), None);
        for path in ["/", "/etc", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0"] {
            assert_eq!(Place::of(path), None, "{path:?}");
        }
        assert!(
            Place::of(&["x"; MAX_DEPTH].join("/")).is_some() && Place::of(&["x"; MAX_DEPTH + 1].join("/")).is_none()
        );
        assert!(Place::of(&"x".repeat(MAX_NAME_BYTES + 1)).is_none());
    }
}
