//! The suite `start`: the real `cargo xtask start`, on a development data folder and a port of its own.
//!
//! The first start grants the example plugins what they ask for; the second finds all of it done; the third finds a folder
//! in which one of them was granted when it asked for less. All serve, have an agent answer with its tools, end when they are
//! told to, and leave no process behind, what stands in for a model included.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Count, Outcome};
use crate::repository::Repository;
use crate::start::OTHER_DEVELOPMENT_DATA;
use crate::{plugins, stand_in, ui};

const LIMIT: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Runs the suite.
pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let folder = repository.state_folder().join("start-suite");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut count = Count::default();
    type Case = fn(&Repository, &Path) -> Result<()>;
    let cases: [(&str, Case); 3] = [
        ("a first start grants the examples", |repository, folder| {
            start(repository, folder, Some("granted the example plugin notes"))
        }),
        ("a second start finds all done", |repository, folder| start(repository, folder, None)),
        ("a start grants what is newly asked for, and nothing that was taken back", newly_asked),
    ];
    for (name, case) in cases {
        match case(repository, &folder) {
            Ok(()) => {
                count.passed += 1;
                ui::say(&format!("  {name} ... ok"));
            }
            Err(error) => {
                count.failed += 1;
                ui::error(&format!("{name} ... FAILED: {error:#}"));
            }
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
    Ok(Outcome::Ran(count))
}

/// A started `cargo xtask start`, which is the gateway after a while. Killed with the value.
struct Started {
    process: Child,
    data: PathBuf,
    log: PathBuf,
}

impl Drop for Started {
    fn drop(&mut self) {
        // It has ended already unless the case failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A right that they run without is gone from two plugins; one of them asked for something else when it was granted.
fn newly_asked(repository: &Repository, folder: &Path) -> Result<()> {
    let (program, data) = (repository.binary("debug", "leanclaw"), folder.join("data"));
    let leanclaw = |arguments: &[&str]| ui::capture(leanclaw(repository, &program, &data).args(arguments));
    leanclaw(&["plugin", "revoke", "text-stats", "limit:memoryMib=128"])?;
    leanclaw(&["plugin", "revoke", "webhook-channel", "http:https://hooks.example.com"])?;
    let list = data.join("granted-by-xtask");
    let granted = std::fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let stale = granted.lines().map(|line| if line.starts_with("text-stats ") { "text-stats" } else { line });
    std::fs::write(&list, stale.map(|line| format!("{line}\n")).collect::<String>())?;
    start(repository, folder, Some("granted the example plugin text-stats"))?;
    for (id, expected) in [("text-stats", 0), ("webhook-channel", 1)] {
        let plugin: Value = serde_json::from_str(&leanclaw(&["plugin", "inspect", id, "--json"])?)?;
        let missing = plugin.get("missing").and_then(Value::as_array).map_or(0, Vec::len);
        ensure!(missing == expected, "{id} misses {missing} rights, not {expected}");
    }
    Ok(())
}

/// Starts and stops it; `grants` is what it says of a grant, if it gives one.
fn start(repository: &Repository, folder: &Path, grants: Option<&str>) -> Result<()> {
    let built = plugins_built(repository)?;
    let mut started = Started::new(repository, folder)?;
    let address = started.until("it listens", |started| Ok(started.address()))?;
    let health = health(&address)?;
    ensure!(health.starts_with("HTTP/1.1 200"), "/health answers {health}");
    let program = repository.binary("debug", "leanclaw");
    started.until("all example plugins are ready", |started| {
        let ready = ready(repository, &program, &started.data)?;
        Ok((ready == built.len()).then_some(()))
    })?;
    if let Some(grants) = grants {
        // All may be ready before: a plugin also runs without what it newly asks for.
        started.until("what was missing is granted", |started| Ok(started.said().contains(grants).then_some(())))?;
    }
    started.until("the process that grants has ended", |started| {
        Ok(children(started.process.id())?.is_empty().then_some(()))
    })?;
    let answer = ui::capture(leanclaw(repository, &program, &started.data).args(["chat", "Which files are there?"]))?;
    ensure!(answer.contains("There are no files in the workspace."), "the agent answers {answer}");
    let said = started.said();
    ensure!(grants.is_some() || !said.contains("granted the example plugin"), "nothing was missing: {said}");
    ensure!(!said.contains("unknown variable"), "it warns of its own variables: {said}");
    ensure!(plugins_built(repository)? == built, "it built plugins that were built");
    let stand_in = stand_in_at(&said).with_context(|| format!("it does not say what stands in for a model: {said}"))?;
    ensure!(TcpStream::connect(&stand_in).is_ok(), "nothing stands in for a model at {stand_in}");
    started.stop()?;
    ends(&stand_in)
}

/// Where it says that what stands in for a model listens.
fn stand_in_at(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.contains("SCRIPTED STAND-IN"))?;
    let (_, url) = line.split_once("http://")?;
    url.split(|letter: char| letter != '.' && letter != ':' && !letter.is_ascii_digit())
        .next()
        .map(|address| address.trim_end_matches(':').to_owned())
}

/// Waits until nothing listens there any more.
fn ends(address: &str) -> Result<()> {
    let since = Instant::now();
    while TcpStream::connect(address).is_ok() {
        ensure!(since.elapsed() < LIMIT, "what stands in for a model goes on at {address}");
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

impl Started {
    fn new(repository: &Repository, folder: &Path) -> Result<Self> {
        let (data, log) = (folder.join("data"), folder.join("log"));
        let file = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let own = std::env::current_exe().context("cannot find this program's own path")?;
        let mut command = repository.command(own);
        command.args(["start", "--port", "0"]).current_dir(folder).env(OTHER_DEVELOPMENT_DATA, &data);

        command.env_remove("LEANCLAW_DATA_DIR").env_remove("LEANCLAW_PLUGIN_DIR");
        command.env_remove(stand_in::KEY).env_remove(stand_in::BASE_URL).env_remove(stand_in::FOREIGN_KEY);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let process = command.spawn().context("cannot run this program")?;
        Ok(Self { process, data, log })
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Looks until there is something to see.
    fn until<T>(&mut self, what: &str, look: impl Fn(&Self) -> Result<Option<T>>) -> Result<T> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended with {status} before this: {what}\n{}", ui::excerpt(&self.said()));
            }
            if let Some(seen) = look(self)? {
                return Ok(seen);
            }
            ensure!(since.elapsed() < LIMIT, "waited in vain for this: {what}\n{}", ui::excerpt(&self.said()));
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Where the gateway listens, which is the very process that was started.
    fn address(&self) -> Option<String> {
        let note = std::fs::read_to_string(self.data.join("leanclaw.lock")).ok()?;
        let mut lines = note.strip_suffix('\n')?.lines();
        (lines.next()? == self.process.id().to_string()).then_some(())?;
        lines.next().map(str::to_owned)
    }

    fn stop(mut self) -> Result<()> {
        ui::capture(Command::new("kill").args(["-TERM", &self.process.id().to_string()]))?;
        let since = Instant::now();
        while since.elapsed() < LIMIT {
            if let Some(status) = self.process.try_wait()? {
                ensure!(status.success(), "it ended with {status}\n{}", ui::excerpt(&self.said()));
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        bail!("it does not end\n{}", ui::excerpt(&self.said()))
    }
}

fn health(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The command line, for the running program.
fn leanclaw(repository: &Repository, program: &Path, data: &Path) -> Command {
    let mut command = repository.command(program);
    command.env("LEANCLAW_DATA_DIR", data).env("LEANCLAW_PLUGIN_DIR", repository.plugins());
    command
}

/// How many plugins the running program has ready.
fn ready(repository: &Repository, program: &Path, data: &Path) -> Result<usize> {
    let listed = ui::capture(leanclaw(repository, program, data).args(["plugin", "list", "--json"]))?;
    let listed: Vec<Value> =
        serde_json::from_str(&listed).context("`leanclaw plugin list --json` did not print JSON")?;
    Ok(listed.iter().filter(|plugin| plugin.get("state").is_some_and(|state| state == "ready")).count())
}

/// The built example plugins, and when each was built.
fn plugins_built(repository: &Repository) -> Result<Vec<(String, std::time::SystemTime)>> {
    let mut built = Vec::new();
    for id in plugins::build_examples(repository)? {
        let manifest = repository.plugins().join(&id).join("leanclaw.plugin.json");
        let modified = manifest.metadata().and_then(|metadata| metadata.modified());
        built.push((id, modified.with_context(|| format!("{} cannot be read", manifest.display()))?));
    }
    Ok(built)
}

/// Processes of a parent, those that ended and were not collected too.
fn children(parent: u32) -> Result<Vec<String>> {
    let processes = std::fs::read_dir("/proc").context("the kernel does not show its processes in /proc")?;
    // `<id> (<name>) <state> <parent> ...`; one that is gone meanwhile has no text.
    let stats = processes.flatten().filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let parent = parent.to_string();
    let is_child = |stat: &String| {
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(1) == Some(parent.as_str())
    };
    Ok(stats.filter(is_child).collect())
}
