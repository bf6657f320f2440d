//! Memory over many calls, of which one in a hundred traps and one in a thousand runs into its time limit.

use anyhow::{Context as _, Result, bail};
use leanclaw_bench::load::{Report, Work};
use serde_json::json;

use crate::guests::{self, Language};
use crate::options::Places;
use crate::report::{Figure, Target, say};
use crate::server::Home;

const PLUGIN: &str = "bench-soak";
/// Calls after which memory is taken for the first time, in a whole soak.
const WARM_UP: u64 = 100_000;
/// Far above what a good call takes on a crowded machine, so that only the endless ones run into it.
const CALL_TIMEOUT_MS: u64 = 100;

pub(crate) fn run(places: &Places, calls: u64) -> Result<Vec<Figure>> {
    let component = std::fs::read(Language::Rust.component(places)?)?;
    let home = Home::new(places)?;
    let manifest = guests::manifest(PLUGIN, json!({"limits": {"callTimeoutMs": CALL_TIMEOUT_MS}}));
    guests::install(&home.plugins(), &manifest, &component)?;
    let server = home.start()?;
    home.grant_all(server.port)?;
    let report_every = (calls / 10).clamp(1, WARM_UP);
    let (mut taken, mut wrong) = (Vec::new(), 0);
    let work = Work::Soak { plugin: PLUGIN.to_owned(), calls, report_every };
    let began = std::time::Instant::now();
    home.load(server.port, (4, 4), work, |report| {
        if let Report::Done { calls, unexpected } = report {
            let mib = server.resident_mib()?;
            say(&format!("{calls} calls: {mib:.1} MiB, {unexpected} unexpected answers"));
            taken.push((calls, mib));
            wrong = unexpected;
        }
        Ok(())
    })?;
    let seconds = began.elapsed().as_secs_f64();
    server.stop()?;
    if wrong > 0 {
        bail!("{wrong} calls were not answered as expected");
    }
    let (_, first) = *taken.first().context("the soak ended before its warm-up")?;
    let (calls, last) = *taken.last().context("the soak took no memory")?;
    let name = format!("memory after {calls} calls, against after {report_every}");
    let details = json!({"mib": taken, "seconds": seconds});
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let rate = calls as f64 / seconds;
    Ok(vec![
        Figure::new("soak", name, last, "MiB").times(first).target(Target::AtMost(1.05)).details(details),
        Figure::new("soak", "calls, with 1 % traps and 0.1 % timeouts", rate, "calls/s"),
    ])
}
