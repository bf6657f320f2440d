//! What is run: folders, limits and where its log goes.
//!
//! It judges the form of a request (guest paths, names), not whether the group may have what it names: that was decided
//! by whoever made the request.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::SandboxError;
use crate::log::LogSink;

/// Where a program finds its workspace. It is told so by `HOME` and, in the embedded sandbox, by WASI's initial folder;
/// Rust's standard library does not go there by itself, so a component has to.
pub const WORKSPACE: &str = "/workspace";

const MIB: u64 = 1024 * 1024;

/// One run of a sandbox's program.
#[derive(Clone)]
pub struct RunSpec {
    /// The id of the run, for logs and for the names of what is made for it.
    pub run_id: String,
    /// The group the run is for: a label for logs and for what has to be found again after a crash.
    pub group: String,
    /// The folder on the host that the program sees as [`WORKSPACE`] and may change. It has to be there, and its path has
    /// to be resolved: a symbolic link in its last part is refused.
    pub workspace: PathBuf,
    /// Further folders, in the order in which the program is told of them.
    pub mounts: Vec<Mount>,
    /// The program's `TZ`, such as `Europe/Berlin`; none leaves it to the program.
    pub time_zone: Option<String>,
    /// Bounds of the run.
    pub limits: RunLimits,
    /// Takes what the program writes to its standard error.
    pub log: LogSink,
}

/// A folder of the host beside the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is on the host; resolved, as the workspace is.
    pub host: PathBuf,
    /// Where the program sees it: an absolute path without `.` and `..`.
    pub guest: String,
    /// Whether the program may only read it.
    pub read_only: bool,
}

/// Bounds of one run. There is no unlimited value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// Memory of the program, in bytes (default 256 MiB). A backend may have a lower ceiling of its own.
    pub memory_bytes: u64,
    /// How long the whole run may take (default 30 minutes, at most 24 hours).
    pub wall_clock: Duration,
    /// How long nothing may pass over its wire, in either direction (default 10 minutes).
    pub idle: Duration,
    /// How long the program may leave one message unread (default 30 seconds).
    pub input_deadline: Duration,
    /// Bytes of one line that the program writes, without its end (default 4 MiB).
    pub line_bytes: usize,
    /// Lines of its standard error that are kept (default 2,000); later ones are only counted.
    pub log_lines: u64,
    /// Bytes kept of one such line (default 4096).
    pub log_line_bytes: usize,
    /// Bytes the run may write to files, and by which it may make files longer (default 1 GiB). What it deletes is not
    /// given back.
    pub written_bytes: u64,
    /// Files, folders and links the run may make (default 100,000).
    pub new_entries: u64,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 * MIB,
            wall_clock: Duration::from_secs(30 * 60),
            idle: Duration::from_secs(10 * 60),
            input_deadline: Duration::from_secs(30),
            line_bytes: 4 * 1024 * 1024,
            log_lines: 2_000,
            log_line_bytes: 4096,
            written_bytes: 1024 * MIB,
            new_entries: 100_000,
        }
    }
}

impl RunSpec {
    /// Looks at everything that can be wrong with the request itself.
    ///
    /// # Errors
    /// [`SandboxError::Mount`] for a guest path that is no clean absolute path, or that is given twice.
    pub fn check(&self) -> Result<(), SandboxError> {
        let mut seen = vec![WORKSPACE];
        for mount in &self.mounts {
            let refuse = |reason| Err(SandboxError::Mount { guest: mount.guest.clone(), reason });
            let Some(parts) = mount.guest.strip_prefix('/') else {
                return refuse("the path inside has to begin with `/`");
            };
            if parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return refuse("the path inside has an empty part, `.` or `..`, or is the root");
            }
            // Container engines split mounts at colons, and no path holds a NUL.
            if parts.chars().any(|character| character == ':' || character.is_control()) {
                return refuse("the path inside has a colon or a control character");
            }
            if seen.contains(&mount.guest.as_str()) {
                return refuse("the path inside is taken already");
            }
            seen.push(&mount.guest);
        }
        Ok(())
    }
}
