//! The load on a server, as a process of its own. Its only argument is a `leanclaw_bench::Task` as JSON; what it finds it
//! writes to standard output, one JSON text per line.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use leanclaw_bench::{Task, compare, crowd, load};
use serde::Serialize;

fn main() -> Result<()> {
    let task = std::env::args().nth(1).context("the task, as JSON, is missing; leanclaw-bench writes it")?;
    let task: Task = serde_json::from_str(&task).context("the task does not read")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &task {
            Task::Load(plan) => load::run(plan, tell).await,
            Task::Compare(comparison) => compare::run(comparison, tell).await,
            Task::Crowd(crowd) => crowd::run(crowd, tell).await,
        }
    })
}

fn tell(found: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(found)?)?;
    Ok(out.flush()?)
}
