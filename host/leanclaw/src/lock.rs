//! One running program per data directory: an exclusive lock on `leanclaw.lock`, with the holder's process id and the address of its
//! gateway inside. A command that works on the stored data itself holds it too, for as long as that takes.
//!
//! The lock is the kernel's (`flock`), so it ends with the process however that ends; what the file says means something
//! only while the lock is held. The file itself is never removed: removing it would let two programs
//! lock two files of the same name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The lock's file name in the data directory.
const FILE_NAME: &str = "leanclaw.lock";

/// A command that asks who holds the lock holds it for an instant itself ([`holder`]); a start tries this often before
/// it believes that a program is running.
const ATTEMPTS: u32 = 5;
const PAUSE_BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);
/// How often it tries while a command holds the lock: for ten minutes, since that command may be compiling plugins.
const ATTEMPTS_DURING_COMMAND: u32 = 30_000;
/// The most that is read of a note.
const MAX_NOTE_BYTES: u64 = 8192;
/// The second line of a command's note.
const COMMAND: &str = "command";

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another program holds it.
    #[error("LeanClaw is already running with this data directory{}: {}", shown_pid(*pid), data_dir.display())]
    Held {
        /// The data directory.
        data_dir: PathBuf,
        /// The process that holds it, when it wrote its id.
        pid: Option<u32>,
    },
    /// The file cannot be opened or locked.
    #[error("the lock {} cannot be taken", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn shown_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl LockError {
    /// What to do about it.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Held { pid: Some(pid), .. } => vec![
                format!("stop it with `kill {pid}`"),
                "or give this one a directory of its own with LEANCLAW_DATA_DIR or --data-dir".to_owned(),
            ],
            Self::Held { pid: None, .. } => {
                vec!["stop the other one, or name another directory with LEANCLAW_DATA_DIR or --data-dir".to_owned()]
            }
            Self::Io { path, .. } => vec![format!("make {} writable for this user", path.display())],
        }
    }
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct DataDirLock {
    /// Closing the file releases the lock.
    _file: File,
}

/// Takes the lock of a data directory that is there.
///
/// # Errors
/// [`LockError::Held`] when another program runs, else [`LockError::Io`].
pub fn acquire(data_dir: &Path) -> Result<DataDirLock, LockError> {
    let mut file = locked(data_dir)?;
    write_lines(&mut file, &[]).map_err(|source| LockError::Io { path: data_dir.join(FILE_NAME), source })?;
    Ok(DataDirLock { _file: file })
}

/// Takes the lock for a command; whoever else wants it waits.
///
/// # Errors
/// As [`acquire`].
pub fn acquire_for_command(data_dir: &Path) -> Result<DataDirLock, LockError> {
    let mut file = locked(data_dir)?;
    write_lines(&mut file, &[COMMAND]).map_err(|source| LockError::Io { path: data_dir.join(FILE_NAME), source })?;
    Ok(DataDirLock { _file: file })
}

fn locked(data_dir: &Path) -> Result<File, LockError> {
    let path = data_dir.join(FILE_NAME);
    let failed = |source| LockError::Io { path: path.clone(), source };
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    let mut waits = Waits::default();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                let note = read_note(&mut file);
                if waits.are_enough(note) {
                    return Err(LockError::Held { data_dir: data_dir.to_owned(), pid: note.pid });
                }
                std::thread::sleep(PAUSE_BETWEEN_ATTEMPTS);
            }
        }
    }
}

/// For whom was waited so far.
#[derive(Default)]
struct Waits {
    for_commands: u32,
    /// In a row: between two commands, or while one writes its note, the holder looks like a program.
    for_programs: u32,
}

impl Waits {
    fn are_enough(&mut self, note: Note) -> bool {
        if !note.is_command {
            self.for_programs += 1;
            return self.for_programs >= ATTEMPTS;
        }
        self.for_programs = 0;
        self.for_commands += 1;
        if self.for_commands == ATTEMPTS {
            let pid = shown_pid(note.pid);
            tracing::warn!("waiting for a leanclaw command{pid} that works on the same data");
        }
        self.for_commands >= ATTEMPTS_DURING_COMMAND
    }
}

/// Notes where the gateway of this process listens and which plugin folder it follows, for the commands that look for it.
/// Called by the process that holds the lock, once the gateway listens.
///
/// # Errors
/// When the file cannot be written.
pub fn publish(data_dir: &Path, gateway: SocketAddr, plugin_dir: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(data_dir.join(FILE_NAME))?;
    // A name that cannot stand in a line is not told; then nobody compares it.
    let plugin_dir = plugin_dir.to_str().filter(|path| !path.contains('\n'));
    write_lines(&mut file, &[&gateway.to_string(), plugin_dir.unwrap_or_default()])
}

/// The plugin folder of the program that runs with a data directory; none when none runs or it is not known.
#[must_use]
pub fn plugin_dir(data_dir: &Path) -> Option<PathBuf> {
    let file = File::open(data_dir.join(FILE_NAME)).ok()?;
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_NOTE_BYTES).read_to_string(&mut text).ok()?;
    text.lines().nth(2).filter(|line| !line.is_empty()).map(PathBuf::from)
}

/// Who holds the lock of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: no program runs with it.
    Nobody,
    /// A running program.
    Process(Note),
}

/// What a running program says about itself in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Note {
    /// Its process id.
    pub pid: Option<u32>,
    /// Where its gateway listens, once it does.
    pub gateway: Option<SocketAddr>,
    /// Whether it is a command that works on the stored data and will end by itself.
    pub is_command: bool,
}

/// Tells whether a program runs with a data directory. Makes nothing.
///
/// # Errors
/// When the lock is there and cannot be read.
pub fn holder(data_dir: &Path) -> io::Result<Holder> {
    let mut file = match fs::File::open(data_dir.join(FILE_NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error),
    };
    // A shared lock, so that two commands that ask at once do not take each other for a running program.
    match file.try_lock_shared() {
        Ok(()) => Ok(Holder::Nobody),
        Err(TryLockError::WouldBlock) => Ok(Holder::Process(read_note(&mut file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Lines: the process id; the gateway's address, or that it is a command; the plugin folder.
fn write_lines(file: &mut File, further: &[&str]) -> io::Result<()> {
    let mut note = format!("{}\n", std::process::id());
    for line in further {
        note.push_str(&format!("{line}\n"));
    }
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(note.as_bytes())
}

fn read_note(file: &mut File) -> Note {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(MAX_NOTE_BYTES).read_to_string(&mut text));
    if read.is_err() {
        return Note::default();
    }
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| line.parse().ok());
    let second = lines.next().unwrap_or_default();
    Note { pid, gateway: second.parse().ok(), is_command: second == COMMAND }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_start_is_told_who_runs() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(holder(directory.path()).unwrap(), Holder::Nobody);
        let lock = acquire(directory.path()).unwrap();
        let own = std::process::id();
        let note = |gateway| Holder::Process(Note { pid: Some(own), gateway, is_command: false });
        assert_eq!(holder(directory.path()).unwrap(), note(None));
        let gateway = "127.0.0.1:18789".parse().unwrap();
        assert_eq!(plugin_dir(directory.path()), None);
        publish(directory.path(), gateway, Path::new("/a b/plugins")).unwrap();
        assert_eq!(holder(directory.path()).unwrap(), note(Some(gateway)));
        assert_eq!(plugin_dir(directory.path()).as_deref(), Some(Path::new("/a b/plugins")));
        let error = acquire(directory.path()).unwrap_err();
        assert!(matches!(error, LockError::Held { pid: Some(pid), .. } if pid == own), "{error}");
        assert!(error.hints()[0].contains(&own.to_string()), "{:?}", error.hints());
        drop(lock);
        assert_eq!(holder(directory.path()).unwrap(), Holder::Nobody);
        assert_eq!(plugin_dir(directory.path()), None, "nobody runs");
        assert!(acquire(directory.path()).is_ok());
    }

    #[test]
    fn a_start_waits_for_a_command() {
        let directory = tempfile::tempdir().unwrap();
        let command = acquire_for_command(directory.path()).unwrap();
        let Holder::Process(note) = holder(directory.path()).unwrap() else { panic!("nobody holds it") };
        assert!(note.is_command);
        let path = directory.path().to_owned();
        let start = std::thread::spawn(move || acquire(&path).map(|lock| (holder(&path).unwrap(), lock)));
        // Longer than it waits for anything else.
        std::thread::sleep(PAUSE_BETWEEN_ATTEMPTS * (ATTEMPTS + 2));
        assert!(!start.is_finished());
        drop(command);
        let (after, _lock) = start.join().unwrap().unwrap();
        assert!(matches!(after, Holder::Process(Note { is_command: false, .. })));
    }

    #[test]
    fn a_note_that_is_being_written_does_not_end_the_wait() {
        let note = |is_command| Note { pid: None, gateway: None, is_command };
        let mut waits = Waits::default();
        for round in 0..ATTEMPTS * 3 {
            assert!(!waits.are_enough(note(true)) && !waits.are_enough(note(false)), "{round}");
        }
        for _ in 1..ATTEMPTS - 1 {
            assert!(!waits.are_enough(note(false)));
        }
        assert!(waits.are_enough(note(false)));
    }

    #[test]
    fn a_stale_process_id_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE_NAME), "99999999999 and more text than fits").unwrap();
        assert_eq!(holder(directory.path()).unwrap(), Holder::Nobody);
        let _lock = acquire(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(acquire(&directory.path().join("missing")), Err(LockError::Io { .. })));
    }
}
