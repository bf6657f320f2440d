//! From exec to ready, and the memory of a gateway that has served one client.

use anyhow::Result;
use leanclaw_bench::numbers::{median, megabytes, milliseconds};

use super::REFERENCE;
use crate::options::Places;
use crate::report::{Figure, Target};
use crate::server::{self, Home, TOKEN};

/// From exec to ready, in milliseconds.
const READY_MS: f64 = 25.0;
/// Resident memory, in megabytes.
const RESIDENT_MB: f64 = 20.0;

pub(super) fn run(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let home = Home::new(places)?;
    // The first start makes the data directory.
    home.start()?.stop()?;
    let (mut ready, mut resident) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut own = [Vec::new(), Vec::new()];
    for _ in 0..if quick { 5 } else { 15 } {
        let [ours, bare] = &mut ready;
        let [our_memory, bare_memory] = &mut resident;
        let [our_own, bare_own] = &mut own;
        let reference = server::reference(places, REFERENCE)?;
        bare.push(milliseconds(reference.ready_after));
        reference.settle(None, "echo")?;
        let memory = reference.memory()?;
        bare_memory.push(megabytes(memory.resident_mib));
        bare_own.push(megabytes(memory.own_mib));
        reference.stop()?;
        let gateway = home.start()?;
        ours.push(milliseconds(gateway.ready_after));
        gateway.settle(Some(TOKEN), "")?;
        let memory = gateway.memory()?;
        our_memory.push(megabytes(memory.resident_mib));
        our_own.push(megabytes(memory.own_mib));
        gateway.stop()?;
    }
    let ([ours, bare], [our_memory, bare_memory], [our_own, bare_own]) = (&ready, &resident, &own);
    Ok(vec![
        Figure::new("start", "exec to ready, no plugins", median(ours), "ms")
            .beside(median(bare))
            .target(Target::AtMost(READY_MS)),
        Figure::new("start", "memory, idle after one client, no plugins", median(our_memory), "MB")
            .beside(median(bare_memory))
            .target(Target::AtMost(RESIDENT_MB)),
        Figure::new("start", "of it its own, the rest being pages of files", median(our_own), "MB")
            .beside(median(bare_own)),
    ])
}
