//! From exec to ready, and the memory of a gateway that nobody uses.

use std::time::Duration;

use anyhow::Result;
use leanclaw_bench::numbers::{median, milliseconds};

use super::REFERENCE;
use crate::options::Places;
use crate::report::{Figure, Target};
use crate::server::{self, Home};

/// From exec to ready, in milliseconds.
const READY_MS: f64 = 25.0;
/// Resident memory, in megabytes.
const RESIDENT_MB: f64 = 20.0;
/// How long nothing happens before memory is looked at.
const IDLE: Duration = Duration::from_secs(1);

pub(super) fn run(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let home = Home::new(places)?;
    // The first start makes the data directory.
    home.start()?.stop()?;
    let (mut ready, mut resident) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..if quick { 5 } else { 15 } {
        let [ours, bare] = &mut ready;
        let [our_memory, bare_memory] = &mut resident;
        for (running, times, memory) in
            [(server::reference(places, REFERENCE)?, bare, bare_memory), (home.start()?, ours, our_memory)]
        {
            times.push(milliseconds(running.ready_after));
            std::thread::sleep(IDLE);
            memory.push(megabytes(running.resident_mib()?));
            running.stop()?;
        }
    }
    let ([ours, bare], [our_memory, bare_memory]) = (&ready, &resident);
    Ok(vec![
        Figure::new("start", "exec to ready, no plugins", median(ours), "ms")
            .beside(median(bare))
            .target(Target::AtMost(READY_MS)),
        Figure::new("start", "memory, idle, no plugins", median(our_memory), "MB")
            .beside(median(bare_memory))
            .target(Target::AtMost(RESIDENT_MB)),
    ])
}

fn megabytes(mib: f64) -> f64 {
    mib * 1024.0 * 1024.0 / 1e6
}
