//! The real program as a child process: started on a folder of plugins, watched from outside, stopped in order.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use leanclaw_bench::Task;
use leanclaw_bench::device::Device;
use leanclaw_bench::load::{Plan, Report, Work};
use leanclaw_bench::wire::Wire;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::options::Places;

/// The token of every gateway here.
pub(crate) const TOKEN: &str = "bench-token-of-no-value";
/// A server that is not ready after this never will be.
const PATIENCE: Duration = Duration::from_secs(180);
/// After it nothing of a start or of a handshake is left in memory that would not stay.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);
/// Between two looks at `/ready`.
const LOOK: Duration = Duration::from_micros(500);

/// A home for one gateway: plugins, data, log.
pub(crate) struct Home {
    folder: TempDir,
    program: PathBuf,
    client: PathBuf,
}

/// A child process that listens.
pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
    /// From the start of the process until `/ready` said yes.
    pub(crate) ready_after: Duration,
    stop_with: Option<&'static str>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only what an error left behind; the exit code of a killed child says nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Home {
    pub(crate) fn new(places: &Places) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("plugins"))?;
        Ok(Self { folder, program: places.program("leanclaw")?, client: places.program("bench-client")? })
    }

    /// The plugin folder.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// Starts the gateway and waits until it is ready.
    pub(crate) fn start(&self) -> Result<Running> {
        let place = self.folder.path();
        let log = std::fs::File::options().create(true).append(true).open(place.join("log"))?;
        let port = free_port()?;
        let mut command = Command::new(&self.program);
        command.arg("start").current_dir(place).env_clear();
        // Nothing of whoever runs the bench: no configuration, no settings.
        command.env("HOME", place).env("LEANCLAW_DATA_DIR", place.join("data"));
        command.env("LEANCLAW_PLUGIN_DIR", self.plugins()).env("LEANCLAW_GATEWAY_PORT", port.to_string());
        command.env("LEANCLAW_GATEWAY_API_KEY", TOKEN);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Running::start(command, port).with_context(|| self.log_tail())
    }

    /// Grants every plugin that waits all it asks for, and gives the number of plugins that are ready then.
    pub(crate) fn grant_all(&self, port: u16) -> Result<usize> {
        in_a_runtime(async {
            let mut wire = Wire::connect(port, TOKEN).await?;
            let listed = wire.call("plugins.list", &json!({"leanclaw": true})).await?;
            let plugins = listed.get("plugins").and_then(Value::as_array).context("plugins.list has no plugins")?;
            for plugin in plugins {
                let id = plugin.get("id").and_then(Value::as_str).context("a plugin without an id")?;
                let params = json!({"pluginId": id, "all": true});
                wire.call("plugins.grant", &params).await.with_context(|| format!("cannot grant {id}"))?;
            }
            let listed = wire.call("plugins.list", &json!({"leanclaw": true})).await?;
            let plugins = listed.get("plugins").and_then(Value::as_array).context("plugins.list has no plugins")?;
            let states = plugins.iter().map(|plugin| plugin.pointer("/leanclaw/state").and_then(Value::as_str));
            let ready = states.filter(|state| *state == Some("ready")).count();
            if ready < plugins.len() {
                bail!("only {ready} of {} plugins are ready: {listed}", plugins.len());
            }
            Ok(ready)
        })
    }

    /// Calls methods, one after the other; with `lenient`, an error answer is fine too.
    pub(crate) fn call_each(&self, port: u16, calls: &[(String, Value)], lenient: bool) -> Result<()> {
        in_a_runtime(async {
            let mut wire = Wire::connect(port, TOKEN).await?;
            for (method, params) in calls {
                let called = wire.call(method, params).await;
                if !lenient {
                    called.with_context(|| format!("{method} failed"))?;
                }
            }
            Ok(())
        })
    }

    /// Runs the load client against `port` and hands on what it reports.
    pub(crate) fn load(
        &self,
        port: u16,
        shape: (usize, usize),
        work: Work,
        each: impl FnMut(Report) -> Result<()>,
    ) -> Result<()> {
        let (connections, in_flight) = shape;
        let task = Task::Load(Plan { port, token: TOKEN.to_owned(), connections, in_flight, work });
        self.client(&task, each)
    }

    /// Runs the client and hands on what it tells.
    pub(crate) fn client<T: DeserializeOwned>(&self, task: &Task, each: impl FnMut(T) -> Result<()>) -> Result<()> {
        let mut child = Client::start(&self.client, task)?;
        child.listen(each)?;
        child.end().with_context(|| self.log_tail())
    }

    /// Starts the client, which then goes on until it is ended.
    pub(crate) fn client_that_stays(&self, task: &Task) -> Result<Client> {
        Client::start(&self.client, task)
    }

    /// Makes `count` sessions.
    pub(crate) fn fill(&self, port: u16, count: usize) -> Result<()> {
        in_a_runtime(async {
            let mut wire = Wire::connect(port, TOKEN).await?;
            wire.call_many("sessions.create", count, |number| json!({"key": format!("bench-{number:06}")})).await
        })
    }

    /// Bytes of the whole answer to a method, for an id of one character.
    pub(crate) fn answer_bytes(&self, port: u16, method: &str, params: &Value) -> Result<usize> {
        in_a_runtime(async {
            let mut wire = Wire::connect(port, TOKEN).await?;
            Ok(wire.call_unread(method, params).await?.len())
        })
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "the gateway's last words:\n{}",
            lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
        )
    }
}

/// The client's process.
pub(crate) struct Client {
    child: Child,
    lines: Option<std::io::Lines<BufReader<ChildStdout>>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        // Only what an error left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    fn start(program: &Path, task: &Task) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(serde_json::to_string(task)?).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        Ok(Self { child, lines })
    }

    /// The next thing it tells; none once it has ended.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let line = self.lines.as_mut().and_then(Iterator::next).transpose()?;
        Ok(line.map(|line| serde_json::from_str(&line)).transpose()?)
    }

    /// Writes a line to its standard input.
    pub(crate) fn line(&mut self) -> Result<()> {
        let mut input = self.child.stdin.as_ref().context("the client's input has ended")?;
        Ok(input.write_all(b"\n")?)
    }

    fn listen<T: DeserializeOwned>(&mut self, mut each: impl FnMut(T) -> Result<()>) -> Result<()> {
        while let Some(told) = self.next()? {
            each(told)?;
        }
        Ok(())
    }

    /// Ends its standard input and waits for it.
    pub(crate) fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the client ended with {status}");
        }
        Ok(())
    }
}

/// Starts the smallest server there is.
pub(crate) fn hello(places: &Places) -> Result<Running> {
    reference(places, "reference-hello")
}

/// Starts a reference.
pub(crate) fn reference(places: &Places, program: &str) -> Result<Running> {
    let port = free_port()?;
    let mut command = Command::new(places.program(program)?);
    command.arg(port.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut running = Running::start(command, port)?;
    running.stop_with = Some("KILL");
    Ok(running)
}

impl Running {
    pub(crate) fn start(mut command: Command, port: u16) -> Result<Self> {
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("{:?} does not start", command.get_program()))?;
        let mut running = Self { child, port, ready_after: Duration::ZERO, stop_with: None };
        while !is_ready(port) {
            if began.elapsed() > PATIENCE {
                bail!("no ready server on port {port} after {PATIENCE:?}");
            }
            if let Some(status) = running.child.try_wait()? {
                bail!("the server ended at once with {status}");
            }
            std::thread::sleep(LOOK);
        }
        running.ready_after = began.elapsed();
        Ok(running)
    }

    /// Resident memory, in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        Ok(self.memory()?.resident_mib)
    }

    /// What it takes of memory right now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        memory(self.child.id())
    }

    /// Waits for the start to be over, and has one client come and go as every later one will: from then on memory tells
    /// what clients cost, and no longer what the first one of them does. `path` is the WebSocket's where there is no
    /// token.
    pub(crate) fn settle(&self, token: Option<&str>, path: &str) -> Result<()> {
        std::thread::sleep(SETTLE);
        in_a_runtime(async {
            match token {
                Some(token) => {
                    let device = Device::numbered(1)?;
                    let mut wire = Wire::connect_as(self.port, token, 0, &device).await?;
                    wire.call("health", &json!({})).await.map(drop)
                }
                None => {
                    let mut wire = Wire::open(self.port, path, 0).await?;
                    wire.send("hello").await?;
                    wire.text().await.map(drop)
                }
            }
        })?;
        std::thread::sleep(SETTLE);
        Ok(())
    }

    /// Stops the process and waits for its end.
    pub(crate) fn stop(mut self) -> Result<()> {
        if self.stop_with.is_none() {
            let status = Command::new("kill").arg(self.child.id().to_string()).status()?;
            if !status.success() {
                bail!("the server could not be told to stop");
            }
            let began = Instant::now();
            while self.child.try_wait()?.is_none() && began.elapsed() < Duration::from_secs(15) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

/// A process's memory, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Memory {
    /// All that is in memory: `VmRSS`.
    pub(crate) resident_mib: f64,
    /// Of it what the process itself wrote, and nothing can take away: `RssAnon`.
    pub(crate) own_mib: f64,
    /// Of it pages of files, such as the program: `RssFile`.
    pub(crate) files_mib: f64,
}

/// The memory of a process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    read_memory(&std::fs::read_to_string(format!("/proc/{pid}/status"))?)
}

fn read_memory(status: &str) -> Result<Memory> {
    let mib = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    };
    Ok(Memory { resident_mib: mib("VmRSS:")?, own_mib: mib("RssAnon:")?, files_mib: mib("RssFile:")? })
}

/// Whether `GET /ready` answers 200 right now.
fn is_ready(port: u16) -> bool {
    let asked = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")?;
        let mut head = [0_u8; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    asked().unwrap_or(false)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

pub(crate) fn in_a_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// A request to a webhook; its answer does not matter.
pub(crate) fn knock(port: u16, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(())
}

/// Copies the files of a folder.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_apart() {
        let status = "Name:\tx\nVmRSS:\t    3072 kB\nRssAnon:\t    1024 kB\nRssFile:\t    2048 kB\nRssShmem:\t 0 kB\n";
        let read = read_memory(status).unwrap();
        assert_eq!(read, Memory { resident_mib: 3.0, own_mib: 1.0, files_mib: 2.0 });
        assert!(read_memory("VmRSS:\t 1 kB").is_err());
    }
}
