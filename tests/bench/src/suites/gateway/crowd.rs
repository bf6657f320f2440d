//! Many connections at once: what each costs while it does nothing, and how long an event takes to reach all.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use leanclaw_bench::Task;
use leanclaw_bench::crowd::{Crowd, Heard, Then};
use leanclaw_bench::numbers::median;

use super::REFERENCE;
use crate::options::Places;
use crate::report::{Figure, Target};
use crate::server::{self, Home, Running, TOKEN};

/// How many times the reference's memory a connection may take.
const TIMES: f64 = 1.5;
/// What it aims at, in KiB.
const AIM_KIB: f64 = 16.0;
/// Sockets of one address that may wait for their handshake.
const STRANGERS_LET_IN: f64 = 32.0;
/// How many of them try.
const STRANGERS: usize = 100;
/// Time for the last handshake's leftovers to go.
const SETTLE: Duration = Duration::from_secs(2);
/// Who hears an event.
const LISTENERS: usize = 1000;

pub(super) fn idle(places: &Places, connections: usize, quick: bool) -> Result<Vec<Figure>> {
    let home = Home::new(places)?;
    // The first start makes the data directory.
    home.start()?.stop()?;
    let (mut ours, mut bare, mut let_in) = (Vec::new(), Vec::new(), 0);
    for _ in 0..if quick { 1 } else { 3 } {
        let reference = server::reference(places, REFERENCE)?;
        let then = Then::Wait { strangers: 0 };
        let path = "echo?small=true".to_owned();
        let crowd = Crowd { port: reference.port, token: None, path, connections, then };
        bare.push(cost(&home, &reference, crowd)?.0);
        reference.stop()?;
        let gateway = home.start()?;
        let (token, then) = (Some(TOKEN.to_owned()), Then::Wait { strangers: STRANGERS });
        let crowd = Crowd { port: gateway.port, token, path: String::new(), connections, then };
        let (kib, strangers) = cost(&home, &gateway, crowd)?;
        ours.push(kib);
        let_in = let_in.max(strangers);
        gateway.stop()?;
    }
    let ours = median(&ours);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let strangers = let_in as f64;
    Ok(vec![
        Figure::new("idle", format!("memory per connection, {connections} of them"), ours, "KiB")
            .times(median(&bare))
            .target(Target::AtMost(TIMES)),
        Figure::new("idle", "the same beside what it aims at", ours, "KiB").beside(AIM_KIB),
        Figure::new("idle", format!("of {STRANGERS} half-open sockets of one address, let in"), strangers, "sockets")
            .target(Target::AtMost(STRANGERS_LET_IN)),
    ])
}

/// What each connection of a crowd costs a server, in KiB, and how many strangers it let in besides.
fn cost(home: &Home, server: &Running, crowd: Crowd) -> Result<(f64, usize)> {
    let before = server.resident_mib()?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let count = crowd.connections as f64;
    let mut client = home.client_that_stays(&Task::Crowd(crowd))?;
    let Some(Heard::There { strangers }) = client.next()? else { bail!("the crowd did not come") };
    std::thread::sleep(SETTLE);
    let after = server.resident_mib()?;
    client.end()?;
    Ok(((after - before) * 1024.0 / count, strangers))
}

pub(super) fn broadcast(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let home = Home::new(places)?;
    let rounds = if quick { 5 } else { 30 };
    let gateway = home.start()?;
    let crowd = |port: u16, token: Option<&str>, path: String| {
        let (token, connections) = (token.map(str::to_owned), LISTENERS + 1);
        Task::Crowd(Crowd { port, token, path, connections, then: Then::Hear { rounds } })
    };
    let (ours, our_spread, bytes) = heard(&home, &crowd(gateway.port, Some(TOKEN), String::new()))?;
    gateway.stop()?;
    let reference = server::reference(places, REFERENCE)?;
    let (bare, bare_spread, _) = heard(&home, &crowd(reference.port, None, format!("all?bytes={bytes}")))?;
    reference.stop()?;
    let name = format!("an event of {bytes} bytes, {LISTENERS} clients");
    Ok(vec![
        Figure::new("broadcast", format!("{name}: from its cause, stored, to the last client"), ours, "ms")
            .beside(bare),
        Figure::new("broadcast", format!("{name}: from the first client to the last"), our_spread, "ms")
            .beside(bare_spread),
    ])
}

/// Medians over the events: to the last listener, from the first to the last, and the bytes.
fn heard(home: &Home, task: &Task) -> Result<(f64, f64, usize)> {
    let (mut lasts, mut spreads, mut size) = (Vec::new(), Vec::new(), None);
    home.client(task, |heard| {
        if let Heard::Event { last_ms, spread_ms, bytes } = heard {
            lasts.push(last_ms);
            spreads.push(spread_ms);
            size = Some(bytes);
        }
        Ok(())
    })?;
    Ok((median(&lasts), median(&spreads), size.context("nobody heard anything")?))
}
