//! The gateway beside a bare server of the same stack: what validation, scopes, rate limits and the rest cost.

mod crowd;
mod openclaw;
mod rates;
mod start;

use std::time::Duration;

use anyhow::{Result, bail};
use leanclaw_bench::Task;
use leanclaw_bench::compare::{Arm, Ask, Comparison, Turn};
use serde_json::Value;

use super::rounds::Arms;
use crate::options::{Gateway, Part, Places};
use crate::report::Figure;
use crate::server::{Home, TOKEN};

/// The program that is compared with.
const REFERENCE: &str = "reference-gateway";
/// How long an arm's turn is.
const SLICE: Duration = Duration::from_millis(300);

/// Measures one part.
pub(crate) fn run(part: Part, places: &Places, options: &Gateway) -> Result<Vec<Figure>> {
    let quick = options.quick;
    match part {
        Part::Health => rates::health(places, quick),
        Part::Sessions => rates::sessions(places, options.sessions(), quick),
        Part::Handshakes => rates::handshakes(places, quick),
        Part::Http => rates::http(places, quick),
        Part::Start => start::run(places, quick),
        Part::Idle => crowd::idle(places, options.connections(), quick),
        Part::Broadcast => crowd::broadcast(places, quick),
        Part::Openclaw => openclaw::run(places, quick),
    }
}

/// A method of a gateway as an arm; with more than one set of parameters, each call takes the next.
fn call(name: &str, port: u16, method: &str, params: &[Value]) -> Arm {
    let (token, method, params) = (TOKEN.to_owned(), method.to_owned(), params.to_vec());
    Arm { name: name.to_owned(), port, ask: Ask::Call { token, method, params } }
}

/// The same bytes to and from the reference.
fn echo(name: &str, port: u16, method: &str, params: &[Value], answer_bytes: usize) -> Arm {
    let (method, params) = (method.to_owned(), params.to_vec());
    Arm { name: name.to_owned(), port, ask: Ask::Echo { method, params, answer_bytes } }
}

/// Gives the arms their turns, after one that does not count.
fn compare(home: &Home, arms: Vec<Arm>, (connections, in_flight): (usize, usize), quick: bool) -> Result<Arms> {
    let rounds = 1 + if quick { 6 } else { 30 };
    let mut seen = vec![0_usize; arms.len()];
    let names: Vec<String> = arms.iter().map(|arm| arm.name.clone()).collect();
    let mut measured = Arms::default();
    let task = Task::Compare(Comparison { arms, connections, in_flight, rounds, slice: SLICE });
    home.client(&task, |turn: Turn| {
        let Turn { arm, calls_per_second, latency, failed } = turn;
        if failed > 0 {
            bail!("{failed} calls of {arm} failed");
        }
        let place = names.iter().position(|name| *name == arm);
        if let Some(seen) = place.and_then(|place| seen.get_mut(place)) {
            *seen += 1;
            if *seen > 1 {
                measured.add(arm, calls_per_second, latency);
            }
        }
        Ok(())
    })?;
    Ok(measured)
}
