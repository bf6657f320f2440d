//! The running program.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::{Value, json};

use super::{Client, Place, Response, eventually, eventually_or, request};

/// A program that has been started and may not be ready yet.
pub(crate) struct Starting {
    process: Process,
    lock: PathBuf,
}

/// A program that is ready. It is killed when the value goes.
pub(crate) struct Program {
    process: Process,
    /// Where its gateway listens.
    pub(crate) address: SocketAddr,
    /// What its readiness said.
    pub(crate) ready: Value,
}

struct Process {
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of process {} ---\n{}---", self.child.id(), self.log());
        }
    }
}

impl Process {
    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the program can be waited for")
    }

    fn signal(&self, signal: i32) {
        let process = libc::pid_t::try_from(self.child.id()).expect("a process id");
        #[expect(unsafe_code, reason = "the standard library can only kill")]
        // SAFETY: sends a signal to a child that has not been waited for, so its id is not anyone else's.
        let sent = unsafe { libc::kill(process, signal) };
        assert_eq!(sent, 0, "the signal can be sent");
    }

    async fn end(&mut self) -> ExitStatus {
        eventually("the program ends", async || self.ended()).await
    }
}

impl Starting {
    /// Starts a program of `place` whose data directory will be `data`.
    pub(crate) fn new(place: &Place, data: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let log = place.new_log();
        let mut command = place.command(&["start"]);
        command.env("LEANCLAW_GATEWAY_PORT", "0");
        command.stdout(Stdio::null()).stderr(fs::File::create(&log).expect("a log can be made"));
        change(&mut command);
        let child = command.spawn().expect("the program starts");
        Self { process: Process { child, log }, lock: data.join("leanclaw.lock") }
    }

    /// Waits until the program listens and says that it is ready.
    pub(crate) async fn ready(mut self) -> Program {
        let address = self.listening().await;
        let ready = eventually("the program is ready", async || {
            let response = request(address, "GET", "/ready", &[], b"").await;
            (response.status == 200).then(|| response.json())
        })
        .await;
        Program { process: self.process, address, ready }
    }

    /// Where it listens, as it says in the lock of its data directory.
    pub(crate) async fn listening(&mut self) -> SocketAddr {
        let (process, lock) = (&mut self.process, &self.lock);
        eventually("the program listens", async || {
            if let Some(status) = process.ended() {
                panic!("the program ended with {status}:\n{}", process.log());
            }
            published(lock, process.child.id())
        })
        .await
    }
}

fn published(lock: &Path, process: u32) -> Option<SocketAddr> {
    let text = fs::read_to_string(lock).ok()?;
    // Whole lines only: it may be being written.
    let mut lines = text.strip_suffix('\n')?.lines();
    let (id, address) = (lines.next()?, lines.next()?);
    // A command that worked on the same data before says so in its place.
    let mut address: SocketAddr = address.parse().ok()?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    (id == process.to_string()).then_some(address)
}

impl Program {
    /// A client that may do everything.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// An HTTP request without a body.
    pub(crate) async fn get(&self, path: &str) -> Response {
        request(self.address, "GET", path, &[], b"").await
    }

    /// Grants a plugin all it asks for; its new standing.
    pub(crate) async fn grant_all(&self, plugin: &str) -> Value {
        let granted = self.client().await.ok("plugins.grant", json!({"pluginId": plugin, "all": true})).await;
        granted["leanclaw"].clone()
    }

    /// The standing of a plugin; null when there is none.
    pub(crate) async fn plugin(&self, plugin: &str) -> Value {
        let listed = self.client().await.ok("plugins.list", json!({"leanclaw": true})).await;
        let rows = listed["plugins"].as_array().expect("a list");
        rows.iter().find(|row| row["id"] == plugin).map_or(Value::Null, |row| row["leanclaw"].clone())
    }

    /// Waits until a plugin stands as wanted.
    pub(crate) async fn plugin_until(&self, plugin: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{plugin}: {what}");
        let look = async || {
            let found = self.plugin(plugin).await;
            if wanted(&found) { Ok(found) } else { Err(found) }
        };
        eventually_or(&what, look).await
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.child.id()
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Memory of its own, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.process.signal(libc::SIGTERM);
    }

    /// Asks it to end, the way a terminal does.
    pub(crate) fn interrupt(&self) {
        self.process.signal(libc::SIGINT);
    }

    /// Waits for its end; the log comes along.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        let status = self.process.end().await;
        (status, self.process.log())
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.terminate();
        let (status, log) = self.end().await;
        assert!(status.success(), "{status}:\n{log}");
    }

    /// Ends it as a power cut would, as far as a process can tell.
    pub(crate) async fn kill(self) {
        self.process.signal(libc::SIGKILL);
        let (status, _) = self.end().await;
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }
}
