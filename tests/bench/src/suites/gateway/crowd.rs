//! Many connections at once: what each costs while it does nothing, and how long an event takes to reach all.

use anyhow::{Context as _, Result, bail};
use leanclaw_bench::Task;
use leanclaw_bench::crowd::{Crowd, Heard, Then};
use leanclaw_bench::numbers::median;

use super::REFERENCE;
use crate::options::Places;
use crate::report::{Figure, Target};
use crate::server::{self, Client, Home, Running, SETTLE, TOKEN};

/// How many times the reference's memory a connection may take.
const TIMES: f64 = 1.5;
/// What it aims at, in KiB.
const AIM_KIB: f64 = 16.0;
/// Sockets of one address that may wait for their handshake: at most, and so many have to come to it that it is the bound
/// that was measured, and not a server that lets nobody in.
const STRANGERS_LET_IN: [f64; 2] = [16.0, 32.0];
/// How many of them try.
const STRANGERS: usize = 100;
/// Who hears an event.
const LISTENERS: usize = 1000;
/// The reference's WebSocket with small buffers.
const SMALL: &str = "echo?small=true";

pub(super) fn idle(places: &Places, connections: usize, quick: bool) -> Result<Vec<Figure>> {
    let home = Home::new(places)?;
    // The first start makes the data directory.
    home.start()?.stop()?;
    let [mut ours, mut bare, mut our_files, mut bare_files, mut let_in] = [const { Vec::new() }; 5];
    for _ in 0..if quick { 1 } else { 3 } {
        let reference = server::reference(places, REFERENCE)?;
        let crowd = Crowd {
            port: reference.port,
            token: None,
            path: SMALL.to_owned(),
            connections,
            then: Then::Wait { strangers: 0 },
        };
        let cost = cost(&home, &reference, crowd)?;
        bare.push(cost.own_kib);
        bare_files.push(cost.files_kib);
        reference.stop()?;
        let gateway = home.start()?;
        let (token, then) = (Some(TOKEN.to_owned()), Then::Wait { strangers: STRANGERS });
        let crowd = Crowd { port: gateway.port, token, path: String::new(), connections, then };
        let cost = self::cost(&home, &gateway, crowd)?;
        ours.push(cost.own_kib);
        our_files.push(cost.files_kib);
        let_in.push(cost.strangers);
        gateway.stop()?;
    }
    let (most, least) = (let_in.iter().copied().fold(0.0, f64::max), let_in.iter().copied().fold(f64::MAX, f64::min));
    let [at_least, at_most] = STRANGERS_LET_IN;
    let strangers = format!("of {STRANGERS} half-open sockets of one address, let in");
    let ours = median(&ours);
    Ok(vec![
        Figure::new("idle", format!("own memory per connection, {connections} of them"), ours, "KiB")
            .times(median(&bare))
            .target(Target::AtMost(TIMES)),
        Figure::new("idle", "the same beside what it aims at", ours, "KiB").beside(AIM_KIB),
        Figure::new("idle", "pages of files that came in meanwhile, per connection", median(&our_files), "KiB")
            .beside(median(&bare_files)),
        Figure::new("idle", format!("{strangers} at most"), most, "sockets").target(Target::AtMost(at_most)),
        Figure::new("idle", format!("{strangers} at least"), least, "sockets").target(Target::AtLeast(at_least)),
    ])
}

/// What a crowd cost a server: memory per connection, and the strangers it let in besides.
struct Cost {
    own_kib: f64,
    files_kib: f64,
    strangers: f64,
}

fn cost(home: &Home, server: &Running, crowd: Crowd) -> Result<Cost> {
    server.settle(crowd.token.as_deref(), &crowd.path)?;
    let before = server.memory()?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let count = crowd.connections as f64;
    let mut client = home.client_that_stays(&Task::Crowd(crowd))?;
    let Some(Heard::There { strangers }) = client.next()? else { bail!("the crowd did not come") };
    std::thread::sleep(SETTLE);
    let after = server.memory()?;
    client.end()?;
    let each = |after: f64, before: f64| (after - before) * 1024.0 / count;
    Ok(Cost {
        own_kib: each(after.own_mib, before.own_mib),
        files_kib: each(after.files_mib, before.files_mib),
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        strangers: strangers as f64,
    })
}

pub(super) fn broadcast(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let home = Home::new(places)?;
    let (gateway, reference) = (home.start()?, server::reference(places, REFERENCE)?);
    let crowd = |port: u16, token: Option<&str>, path: String| {
        let (token, connections) = (token.map(str::to_owned), LISTENERS);
        let mut client =
            home.client_that_stays(&Task::Crowd(Crowd { port, token, path, connections, then: Then::Hear }))?;
        match client.next()? {
            Some(Heard::There { .. }) => anyhow::Ok(client),
            _ => bail!("the crowd did not come"),
        }
    };
    let mut ours = crowd(gateway.port, Some(TOKEN), String::new())?;
    // The first event does not count; it tells how long the reference's has to be.
    let (_, _, bytes) = event(&mut ours)?;
    let mut bare = crowd(reference.port, None, format!("all?bytes={bytes}"))?;
    event(&mut bare)?;
    let ([mut our_lasts, mut our_spreads], [mut lasts, mut spreads]) =
        ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..if quick { 5 } else { 30 } {
        for turn in [round % 2, (round + 1) % 2] {
            let (client, all, apart) = match turn {
                0 => (&mut ours, &mut our_lasts, &mut our_spreads),
                _ => (&mut bare, &mut lasts, &mut spreads),
            };
            let (last_ms, spread_ms, _) = event(client)?;
            all.push(last_ms);
            apart.push(spread_ms);
        }
    }
    ours.end()?;
    bare.end()?;
    gateway.stop()?;
    reference.stop()?;
    let name = format!("an event of {bytes} bytes, {LISTENERS} clients");
    let last = format!("{name}: from its cause, stored, to the last client");
    let spread = format!("{name}: from the first client to the last");
    Ok(vec![
        Figure::new("broadcast", last, median(&our_lasts), "ms").beside(median(&lasts)),
        Figure::new("broadcast", spread, median(&our_spreads), "ms").beside(median(&spreads)),
    ])
}

/// One event: milliseconds to the last listener and from the first to the last, and its bytes.
fn event(client: &mut Client) -> Result<(f64, f64, usize)> {
    client.line()?;
    match client.next()?.context("the crowd is gone")? {
        Heard::Event { last_ms, spread_ms, bytes } => Ok((last_ms, spread_ms, bytes)),
        Heard::There { .. } => bail!("nobody heard anything"),
    }
}
