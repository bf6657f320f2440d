//! The load on a gateway, as a process of its own. Its only argument is a plan as JSON; see `leanclaw_bench::load`.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use leanclaw_bench::load::{self, Plan};

fn main() -> Result<()> {
    let plan = std::env::args().nth(1).context("the plan, as JSON, is missing; leanclaw-bench writes it")?;
    let plan: Plan = serde_json::from_str(&plan).context("the plan does not read")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(load::run(&plan, |report| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(report)?)?;
        Ok(out.flush()?)
    }))
}
