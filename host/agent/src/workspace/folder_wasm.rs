//! A folder by its path: the runtime keeps every path within what it opened for the component, so nothing outside of the
//! workspace can be reached this way either.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::{Entry, Kind};

#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

fn kind_of(file_type: fs::FileType) -> Kind {
    if file_type.is_dir() {
        Kind::Folder
    } else if file_type.is_file() {
        Kind::File
    } else if file_type.is_symlink() {
        Kind::Link
    } else {
        Kind::Other
    }
}

impl Folder {
    pub(crate) fn root(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.is_dir() { Ok(Self(path.to_owned())) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    pub(crate) fn kind(&self, name: &str) -> io::Result<Kind> {
        Ok(kind_of(fs::symlink_metadata(self.0.join(name))?.file_type()))
    }

    pub(crate) fn link(&self, name: &str) -> io::Result<String> {
        let target = fs::read_link(self.0.join(name))?.into_os_string();
        target.into_string().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the link's target is not UTF-8"))
    }

    pub(crate) fn folder(&self, name: &str) -> io::Result<Self> {
        match self.kind(name)? {
            Kind::Folder => Ok(Self(self.0.join(name))),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(crate) fn file(&self, name: &str) -> io::Result<File> {
        match self.kind(name)? {
            Kind::File => File::open(self.0.join(name)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(crate) fn make(&self, name: &str) -> io::Result<()> {
        fs::create_dir(self.0.join(name))
    }

    pub(crate) fn create_new(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(self.0.join(name))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    pub(crate) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            entries.push(Entry { kind: entry.file_type().map_or(Kind::Other, kind_of), name });
        }
        Ok(entries)
    }
}
