//! A plugin that behaves beside one that does not: calls on one connection, alone and while another connection keeps guests of
//! another plugin spinning.
//!
//! One spinning guest leaves a core of two to everybody else, so the calls must keep at least half of their rate. As many
//! spinning guests as there are threads leave none: a call then waits until one of them is interrupted, which is the engine's
//! tick of 10 ms. That is shown, and bounded by what it is made of.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use leanclaw_bench::Task;
use leanclaw_bench::load::{Plan, Report, Work};
use serde_json::json;

use crate::guests::{self, Language};
use crate::options::Places;
use crate::report::{Figure, Target};
use crate::server::{Home, TOKEN};
use crate::suites::rounds::Arms;

const WITNESS: &str = "bench-witness";
const HOSTILE: &str = "bench-hostile";
/// How long one of the hostile guests spins before the host ends it, in milliseconds.
const SPIN_MS: u64 = 1500;
/// Until the first of them spins.
const BEGIN: Duration = Duration::from_millis(300);
/// Until the last of them was ended.
const OVER: Duration = Duration::from_millis(SPIN_MS + 500);
const LEAST_BESIDE_ONE: f64 = 0.5;
/// The tick that interrupts a guest, twice (a call enters the guest once to be made and once to be called, and either may have
/// to wait), and as much again for the rest of the machine.
const MOST_WAIT_MS: f64 = 40.0;

pub(crate) fn run(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let component = std::fs::read(Language::Rust.component(places)?)?;
    let home = Home::new(places)?;
    guests::install(&home.plugins(), &guests::manifest(WITNESS, json!({})), &component)?;
    let hostile = json!({"limits": {"callTimeoutMs": SPIN_MS}});
    guests::install(&home.plugins(), &guests::manifest(HOSTILE, hostile), &component)?;
    let server = home.start()?;
    home.grant_all(server.port)?;
    let threads = std::thread::available_parallelism()?.get();
    let mut measured = Arms::default();
    for _ in 0..if quick { 2 } else { 6 } {
        for spinning in [0, 1, threads] {
            witness(&home, server.port, spinning, &mut measured)?;
        }
    }
    server.stop()?;
    let alone = measured.get(&arm(0))?;
    let beside_one = measured.get(&arm(1))?;
    let beside_all = measured.get(&arm(threads))?;
    let wait_ms = beside_all.latency().p99_us / 1000.0;
    Ok(vec![
        Figure::new("beside", "calls of a plugin beside one spinning guest of another", beside_one.rate(), "calls/s")
            .beside(alone.rate())
            .compared(beside_one.part_of(alone), "of alone")
            .target(Target::AtLeast(LEAST_BESIDE_ONE))
            .details(json!({"latency": beside_one.latency(), "aloneLatency": alone.latency()})),
        Figure::new("beside", format!("p99 beside {threads}, one per core"), wait_ms, "ms")
            .beside(alone.latency().p99_us / 1000.0)
            .target(Target::AtMost(MOST_WAIT_MS))
            .details(json!({"latency": beside_all.latency(), "callsPerSecond": beside_all.rate()})),
    ])
}

fn arm(spinning: usize) -> String {
    format!("beside {spinning}")
}

/// One round of calls, while so many guests spin.
fn witness(home: &Home, port: u16, spinning: usize, measured: &mut Arms) -> Result<()> {
    let spinners = if spinning == 0 {
        None
    } else {
        let methods = vec![format!("{HOSTILE}.spin")];
        let work = Work::Slices { methods, rounds: 1, slice: Duration::from_secs(60) };
        // A connection each: what arrives on one runs on one thread.
        let plan = Plan { port, token: TOKEN.to_owned(), connections: spinning, in_flight: 1, work };
        let spinners = home.client_that_stays(&Task::Load(plan))?;
        std::thread::sleep(BEGIN);
        Some(spinners)
    };
    let slice = Duration::from_millis(500);
    let work = Work::Slices { methods: vec![format!("{WITNESS}.run")], rounds: 1, slice };
    let mut found = None;
    home.load(port, (1, 1), work, |report| {
        if let Report::Slice { calls_per_second, latency, failed, .. } = report {
            if failed > 0 {
                bail!("{failed} calls failed beside {spinning} spinning guests");
            }
            found = Some((calls_per_second, latency));
        }
        Ok(())
    })?;
    let (calls_per_second, latency) = found.context("the client told nothing")?;
    measured.add(arm(spinning), calls_per_second, latency);
    if spinners.is_some() {
        drop(spinners);
        std::thread::sleep(OVER);
    }
    Ok(())
}
