//! Folders for one program: data, plugins, a home, a working directory. They are removed with the value.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::program::{Program, Starting};
use super::scratch;

/// Folders for one program.
pub(crate) struct Place {
    folder: TempDir,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// What it printed, when it worked.
    pub(crate) fn ok(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.out
    }

    /// The JSON it printed, when it worked.
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// What it complained of, when it failed with this exit status.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        assert_eq!(self.out, "", "a failure prints no data");
        self.err
    }
}

impl Place {
    /// Folders without any plugin.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::tempdir_in(scratch::folder()).expect("a folder can be made");
        let place = Self { folder };
        fs::DirBuilder::new().mode(0o700).create(place.data()).expect("a folder can be made");
        for path in [place.plugins(), place.home().join(".config/leanclaw"), place.work()] {
            fs::create_dir_all(path).expect("a folder can be made");
        }
        place
    }

    /// Folders with example plugins whose code is compiled already. Nothing is granted.
    pub(crate) async fn with_examples(ids: &[&str]) -> Self {
        let place = Self::empty();
        for id in ids {
            place.add_example(id);
            let cache = scratch::compiled(id).await;
            // Each cache has a key of its own, so the first one wins and the others would only be misses.
            if !place.data().join("cache").exists() {
                scratch::copy(&cache, &place.data().join("cache"));
            }
        }
        place
    }

    /// Has the data directory begin with this compiled code.
    pub(crate) fn add_compiled(&self, cache: &Path) {
        scratch::copy(cache, &self.data().join("cache"));
    }

    /// Puts a built example plugin into the plugin folder.
    pub(crate) fn add_example(&self, id: &str) {
        scratch::copy(&scratch::example(id), &self.plugins().join(id));
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Where commands run and where `.env` is looked for.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// The configuration file of the home.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.home().join(".config/leanclaw/config.json")
    }

    pub(crate) fn write_config(&self, text: &str) {
        write_private(&self.config_file(), text);
    }

    pub(crate) fn write_dotenv(&self, text: &str) {
        write_private(&self.work().join(".env"), text);
    }

    /// The program with nothing but a home and a working directory: no setting comes from outside.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(scratch::binary());
        command.env_clear().env("HOME", self.home()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(self.work()).args(arguments).stdin(Stdio::null());
        command
    }

    /// The program, told of this place's folders.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.env("LEANCLAW_DATA_DIR", self.data()).env("LEANCLAW_PLUGIN_DIR", self.plugins()).env("TZ", "UTC");
        command
    }

    /// Runs a command to its end. Every command ends by itself; one that does not is killed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Run {
        run(self.command(arguments)).await
    }

    /// Runs a command with a changed command line or environment to its end.
    pub(crate) async fn run_with(&self, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Run {
        let mut command = self.command(arguments);
        change(&mut command);
        run(command).await
    }

    /// Starts the program on a free port and waits until it is ready.
    pub(crate) async fn start(&self) -> Program {
        self.start_with(|_| {}).await
    }

    /// Starts the program with a changed command line or environment.
    pub(crate) async fn start_with(&self, change: impl FnOnce(&mut Command)) -> Program {
        Starting::new(self, &self.data(), change).ready().await
    }

    /// Starts the program and waits for nothing.
    pub(crate) fn starting(&self) -> Starting {
        self.starting_with(|_| {})
    }

    /// The same with a changed command line or environment.
    pub(crate) fn starting_with(&self, change: impl FnOnce(&mut Command)) -> Starting {
        Starting::new(self, &self.data(), change)
    }

    /// Starts the program with another data directory.
    pub(crate) async fn start_in(&self, data: &Path) -> Program {
        let change = env("LEANCLAW_DATA_DIR", data.to_str().expect("a path in UTF-8"));
        Starting::new(self, data, change).ready().await
    }

    /// Starts a program that is expected to give up.
    pub(crate) async fn refused_start(&self, change: impl FnOnce(&mut Command)) -> String {
        let mut command = self.command(&["start"]);
        command.env("LEANCLAW_GATEWAY_PORT", "0");
        change(&mut command);
        run(command).await.failed(1)
    }

    /// A path for the log of the next start.
    pub(super) fn new_log(&self) -> PathBuf {
        let logs = self.folder.path().join("logs");
        fs::create_dir_all(&logs).expect("a folder can be made");
        let count = fs::read_dir(&logs).expect("it can be read").count();
        logs.join(count.to_string())
    }
}

/// Runs the program through another one that ends as the program, such as `env` or `setpriv`.
pub(crate) fn through(wrapper: &'static [&'static str]) -> impl FnOnce(&mut Command) {
    move |command| {
        let Some((program, arguments)) = wrapper.split_first() else { return };
        let mut wrapped = Command::new(program);
        wrapped.args(arguments).arg(command.get_program()).args(command.get_args()).env_clear().stdin(Stdio::null());
        wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = command.get_current_dir() {
            wrapped.current_dir(folder);
        }
        *command = wrapped;
    }
}

/// A change of the environment, for [`Place::start_with`] and its like.
pub(crate) fn env(name: &'static str, value: &str) -> impl FnOnce(&mut Command) {
    move |command| {
        command.env(name, value);
    }
}

/// Runs a command to its end.
pub(crate) async fn run(mut command: Command) -> Run {
    let shown = format!("{command:?}");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("the program runs");
    let output = super::within(&shown, child.wait_with_output()).await.expect("its output can be read");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    Run { status: output.status, out: text(output.stdout), err: text(output.stderr) }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).expect("a file can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
}
