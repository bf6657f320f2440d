//! The data of one run's store: what the standard interfaces reach.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use leanclaw_wasm::{Limited, Limiter, Limits};
use rustix::fs::{Mode, OFlags};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::{Dir, OpenMode, WasiFilesystemCtxView};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::budget::Budget;
use super::entries::Listings;
use super::files::Files;
use super::stdio::{Stderr, Stdin, Stdout};
use crate::error::SandboxError;
use crate::log::ProgramLog;
use crate::pipe::{Reader, Writer};
use crate::spec::{RunSpec, WORKSPACE};

/// The name a program is called by.
const PROGRAM: &str = "agent";

/// The folders of a run, open. A path is looked at once, so that nothing can take its place later.
pub(super) struct Folders(pub(super) Vec<(Dir, String)>);

impl Folders {
    /// Opens the workspace and the mounts, in this order.
    pub(super) async fn open(spec: &RunSpec) -> Result<Self, SandboxError> {
        let workspace = (spec.workspace.clone(), WORKSPACE.to_owned(), FsPerms::ReadWrite);
        let mounts = spec.mounts.iter().map(|mount| {
            let permissions = if mount.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            (mount.host.clone(), mount.guest.clone(), permissions)
        });
        let wanted: Vec<_> = std::iter::once(workspace).chain(mounts).collect();
        let first = spec.workspace.clone();
        let open = move || {
            let opened = wanted.into_iter().map(|(path, guest, permissions)| match open_folder(&path, permissions) {
                Ok(folder) => Ok((folder, guest)),
                Err(source) => Err(SandboxError::Folder { path, guest, source }),
            });
            opened.collect::<Result<_, _>>().map(Self)
        };
        tokio::task::spawn_blocking(open).await.unwrap_or_else(|error| {
            let source = std::io::Error::other(error);
            Err(SandboxError::Folder { path: first, guest: WORKSPACE.into(), source })
        })
    }
}

fn open_folder(path: &Path, permissions: FsPerms) -> std::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    let mode = if permissions.write_not_permitted() { OpenMode::READ } else { OpenMode::READ | OpenMode::WRITE };
    // Work on files blocks, so it is never done on a thread of the runtime.
    let may_block_this_thread = false;
    Ok(Dir::new(File::from(folder), permissions, mode, may_block_this_thread))
}

/// The guest's ends of its streams.
pub(super) struct Streams {
    pub(super) stdin: Reader,
    pub(super) stdout: Writer,
    pub(super) log: ProgramLog,
}

/// The data of a store.
pub(super) struct RunState {
    limiter: Limiter,
    wasi: WasiCtx,
    table: ResourceTable,
    folders: Folders,
    budget: Arc<Budget>,
    listings: Listings,
}

impl RunState {
    pub(super) fn new(spec: &RunSpec, limits: Limits, folders: Folders, streams: Streams, listings: Listings) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let mut builder = WasiCtxBuilder::new();
        builder
            .stdin(Stdin(streams.stdin))
            .stdout(Stdout(streams.stdout))
            .stderr(Stderr(streams.log))
            .arg(PROGRAM)
            .env("HOME", WORKSPACE)
            .initial_cwd(WORKSPACE)
            .max_random_size(limits.random_bytes)
            // Said here, and not left to what the WASI crate takes for granted: there is no network.
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .socket_addr_check(|_, _| Box::pin(std::future::ready(false)));
        if let Some(zone) = &spec.time_zone {
            builder.env("TZ", zone);
        }
        Self {
            limiter: Limiter::new(limits),
            wasi: builder.build(),
            table,
            folders,
            budget: Arc::new(Budget::new(spec.limits.written_bytes, spec.limits.new_entries)),
            listings,
        }
    }

    /// What the file system interfaces reach.
    pub(super) fn files(&mut self) -> Files<'_> {
        Files {
            wasi: WasiFilesystemCtxView { ctx: self.wasi.filesystem(), table: &mut self.table },
            folders: &self.folders,
            budget: &self.budget,
            listings: &mut self.listings,
        }
    }
}

impl Limited for RunState {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.limiter
    }
}

impl WasiView for RunState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
