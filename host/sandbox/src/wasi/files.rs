//! `wasi:filesystem` as a run sees it: wasmtime's own, within the run's budget.
//!
//! What is added to it: folders are given as open descriptors and not as paths; bytes and entries are counted
//! (`budget.rs`); a listing is bounded (`entries.rs`); and only files, folders and links are opened, because to open a
//! pipe that lies in a folder would hold a thread for ever. That nothing leads out of a folder (links, `..`, absolute
//! paths) is wasmtime's to see to, and is tested here.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::pipe::ClosedOutputStream;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::budget::{Budget, Exhausted, Metered};
use super::entries::{self, Listings};
use super::state::{Folders, RunState};
use types::{DescriptorType, ErrorCode, Filesize, HostDescriptor, HostDirectoryEntryStream, OpenFlags, PathFlags};

/// Puts these interfaces in the place of wasmtime's.
pub(super) fn add_to_linker(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    preopens::add_to_linker::<RunState, HasFiles>(linker, RunState::files)?;
    types::add_to_linker::<RunState, HasFiles>(linker, RunState::files)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

/// What the interfaces reach in one store.
pub(super) struct Files<'a> {
    pub(super) wasi: WasiFilesystemCtxView<'a>,
    pub(super) folders: &'a Folders,
    pub(super) budget: &'a Arc<Budget>,
    pub(super) listings: &'a mut Listings,
}

type Handle = Resource<Descriptor>;

fn same(handle: &Handle) -> Handle {
    Resource::new_borrow(handle.rep())
}

impl From<Exhausted> for ErrorCode {
    fn from(Exhausted: Exhausted) -> Self {
        Self::InsufficientSpace
    }
}

impl Files<'_> {
    /// Lets a stream into a file count what passes.
    fn meter(&mut self, stream: Resource<DynOutputStream>) -> FsResult<Resource<DynOutputStream>> {
        let place = self.wasi.table.get_mut(&stream)?;
        let inner = std::mem::replace(place, Box::new(ClosedOutputStream));
        *place = Box::new(Metered::new(inner, self.budget));
        Ok(stream)
    }

    /// Keeps what was made, or takes back that an entry was counted for it.
    fn made<R>(&self, made: FsResult<R>) -> FsResult<R> {
        if made.is_err() {
            self.budget.give_back_entry();
        }
        made
    }

    fn take_entry(&self) -> FsResult<()> {
        self.budget.take_entry().map_err(|exhausted| ErrorCode::from(exhausted).into())
    }
}

impl preopens::Host for Files<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let folders = self.folders.0.iter();
        folders
            .map(|(folder, guest)| Ok((self.wasi.table.push(Descriptor::Dir(folder.clone()))?, guest.clone())))
            .collect()
    }
}

impl types::Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi.filesystem_error_code(error)
    }
}

impl HostDescriptor for Files<'_> {
    async fn open_at(
        &mut self,
        folder: Handle,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Handle> {
        let found = self.wasi.stat_at(same(&folder), path_flags, path.clone()).await;
        let opens = |kind| {
            matches!(kind, DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink)
        };
        match found {
            Ok(stat) if !opens(stat.type_) => return Err(ErrorCode::NotPermitted.into()),
            Ok(_) => return self.wasi.open_at(folder, path_flags, path, open_flags, flags).await,
            Err(_) if !open_flags.contains(OpenFlags::CREATE) => {
                return self.wasi.open_at(folder, path_flags, path, open_flags, flags).await;
            }
            Err(_) => {}
        }
        self.take_entry()?;
        let opened = self.wasi.open_at(folder, path_flags, path, open_flags, flags).await;
        self.made(opened)
    }

    async fn create_directory_at(&mut self, folder: Handle, path: String) -> FsResult<()> {
        self.take_entry()?;
        let made = self.wasi.create_directory_at(folder, path).await;
        self.made(made)
    }

    async fn symlink_at(&mut self, folder: Handle, target: String, path: String) -> FsResult<()> {
        self.take_entry()?;
        let made = self.wasi.symlink_at(folder, target, path).await;
        self.made(made)
    }

    async fn link_at(
        &mut self,
        folder: Handle,
        path_flags: PathFlags,
        path: String,
        new_folder: Handle,
        new_path: String,
    ) -> FsResult<()> {
        self.take_entry()?;
        let made = self.wasi.link_at(folder, path_flags, path, new_folder, new_path).await;
        self.made(made)
    }

    async fn write(&mut self, file: Handle, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let length = bytes.len();
        self.budget.take_bytes(length).map_err(|exhausted| FsError::from(ErrorCode::from(exhausted)))?;
        let written = self.wasi.write(file, bytes, offset).await;
        let kept = written.as_ref().map_or(0, |kept| *kept);
        self.budget.give_back_bytes(u64::try_from(length).unwrap_or(u64::MAX).saturating_sub(kept));
        written
    }

    fn write_via_stream(&mut self, file: Handle, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi.write_via_stream(file, offset)?;
        self.meter(stream)
    }

    fn append_via_stream(&mut self, file: Handle) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi.append_via_stream(file)?;
        self.meter(stream)
    }

    async fn read_directory(&mut self, folder: Handle) -> FsResult<Resource<types::DirectoryEntryStream>> {
        let mut entries = 0;
        if let Descriptor::Dir(opened) = self.wasi.table.get(&folder)? {
            let room = self.listings.room();
            entries = entries::count(Arc::clone(&opened.dir), room).await?;
            if entries > room.saturating_add(2) {
                return Err(ErrorCode::InsufficientMemory.into());
            }
        }
        let listing = self.wasi.read_directory(folder).await?;
        self.listings.hold(listing.rep(), entries);
        Ok(listing)
    }

    fn read_via_stream(&mut self, file: Handle, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.wasi.read_via_stream(file, offset)
    }

    async fn read(&mut self, file: Handle, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        self.wasi.read(file, length, offset).await
    }

    async fn advise(
        &mut self,
        file: Handle,
        offset: Filesize,
        length: Filesize,
        advice: types::Advice,
    ) -> FsResult<()> {
        self.wasi.advise(file, offset, length, advice).await
    }

    async fn sync_data(&mut self, handle: Handle) -> FsResult<()> {
        self.wasi.sync_data(handle).await
    }

    async fn sync(&mut self, handle: Handle) -> FsResult<()> {
        self.wasi.sync(handle).await
    }

    async fn get_flags(&mut self, handle: Handle) -> FsResult<types::DescriptorFlags> {
        self.wasi.get_flags(handle).await
    }

    async fn get_type(&mut self, handle: Handle) -> FsResult<DescriptorType> {
        self.wasi.get_type(handle).await
    }

    async fn set_size(&mut self, file: Handle, size: Filesize) -> FsResult<()> {
        self.wasi.set_size(file, size).await
    }

    async fn set_times(
        &mut self,
        handle: Handle,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        self.wasi.set_times(handle, accessed, modified).await
    }

    async fn set_times_at(
        &mut self,
        folder: Handle,
        path_flags: PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        self.wasi.set_times_at(folder, path_flags, path, accessed, modified).await
    }

    async fn stat(&mut self, handle: Handle) -> FsResult<types::DescriptorStat> {
        self.wasi.stat(handle).await
    }

    async fn stat_at(&mut self, folder: Handle, flags: PathFlags, path: String) -> FsResult<types::DescriptorStat> {
        self.wasi.stat_at(folder, flags, path).await
    }

    async fn readlink_at(&mut self, folder: Handle, path: String) -> FsResult<String> {
        self.wasi.readlink_at(folder, path).await
    }

    async fn remove_directory_at(&mut self, folder: Handle, path: String) -> FsResult<()> {
        self.wasi.remove_directory_at(folder, path).await
    }

    async fn rename_at(&mut self, folder: Handle, path: String, new_folder: Handle, new_path: String) -> FsResult<()> {
        self.wasi.rename_at(folder, path, new_folder, new_path).await
    }

    async fn unlink_file_at(&mut self, folder: Handle, path: String) -> FsResult<()> {
        self.wasi.unlink_file_at(folder, path).await
    }

    async fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        self.wasi.is_same_object(one, other).await
    }

    async fn metadata_hash(&mut self, handle: Handle) -> FsResult<types::MetadataHashValue> {
        self.wasi.metadata_hash(handle).await
    }

    async fn metadata_hash_at(
        &mut self,
        folder: Handle,
        flags: PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        self.wasi.metadata_hash_at(folder, flags, path).await
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.wasi, handle)
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        listing: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.wasi.read_directory_entry(listing).await
    }

    fn drop(&mut self, listing: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.listings.forget(listing.rep());
        HostDirectoryEntryStream::drop(&mut self.wasi, listing)
    }
}
