//! OpenClaw's own gateway beside this one, where it is installed. Shown only: nobody promised how fast it is.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use leanclaw_bench::numbers::milliseconds;
use serde_json::json;

use super::{call, compare};
use crate::options::Places;
use crate::report::{Figure, say};
use crate::server::{self, Home, Running, TOKEN};

pub(super) fn run(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let Some(programs) = places.openclaw() else {
        say(
            "no OpenClaw is installed here (`cargo xtask test clients` installs it), so there is nothing to compare with",
        );
        return Ok(Vec::new());
    };
    let home = Home::new(places)?;
    let folder = tempfile::tempdir()?;
    let theirs = start(&programs, folder.path()).context("OpenClaw's gateway does not start")?;
    let ours = home.start()?;
    let mut figures = vec![
        Figure::new("openclaw", "exec to ready", milliseconds(ours.ready_after), "ms")
            .beside(milliseconds(theirs.ready_after)),
        Figure::new("openclaw", "memory", ours.resident_mib()?, "MiB").beside(theirs.resident_mib()?),
    ];
    for shape in [(1, 1), (16, 8)] {
        let arms = ["ours", "theirs"].iter().zip([ours.port, theirs.port]);
        let arms = arms.map(|(name, port)| call(name, port, "health", &[json!({})])).collect();
        let measured = compare(&home, arms, shape, quick)?;
        let (rate, reference) = (measured.get("ours")?, measured.get("theirs")?);
        let name = format!("health, {}x{}", shape.0, shape.1);
        figures.push(Figure::new("openclaw", name, rate.rate(), "calls/s").times(reference.rate()));
    }
    ours.stop()?;
    theirs.stop()?;
    Ok(figures)
}

/// Starts it with a home of its own, and waits until it is ready.
fn start(programs: &Path, home: &Path) -> Result<Running> {
    let port = server::free_port()?;
    std::fs::create_dir(home.join(".openclaw"))?;
    let config = json!({"gateway": {"mode": "local", "port": port, "auth": {"mode": "token", "token": TOKEN}}});
    std::fs::write(home.join(".openclaw/openclaw.json"), config.to_string())?;
    let log = std::fs::File::create(home.join("log"))?;
    let mut command = Command::new(programs.join("node"));
    command.arg(programs.join("openclaw")).args(["gateway", "run", "--port", &port.to_string(), "--bind", "loopback"]);
    command.current_dir(home).env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Running::start(command, port).with_context(|| std::fs::read_to_string(home.join("log")).unwrap_or_default())
}
