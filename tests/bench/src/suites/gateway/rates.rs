//! Calls, handshakes and requests per second.

use anyhow::Result;
use leanclaw_bench::compare::{Arm, Ask};
use serde_json::{Map, Value, json};

use super::{REFERENCE, call, compare, echo};
use crate::options::Places;
use crate::report::{Figure, Target, say};
use crate::server::{self, Home, TOKEN};
use crate::suites::rounds::{Arms, Rounds};

/// How much longer than the reference's the slowest hundredth of the calls may take, where the rate has to be near the
/// reference's. What may reach a third of that rate takes three times as long with as many calls in flight.
const TAIL: f64 = 2.0;
/// The part of the reference that handshakes with a signature must reach.
const HANDSHAKES: f64 = 0.30;
/// The same of `GET /health`.
const HTTP: f64 = 0.80;
/// The same of `sessions.list`.
const SESSIONS: f64 = 0.25;
/// The part of the rate with few sessions that must be left with many.
const MANY: f64 = 0.90;
/// Rows of a list.
const ROWS: usize = 20;
/// How many sessions few are, and the rows of a list beside them: as many of the many.
const FEW: usize = 10;
/// What a list may say and is the same list, because `false` is what holds without it. Not more: all the parameters are an
/// argument of the client's.
const SAYS_NOTHING: [&str; 8] = [
    "hasBoard",
    "activeOnly",
    "ownerFirst",
    "involvingMe",
    "includeGlobal",
    "includePeople",
    "includeUnknown",
    "excludeSubagents",
];

/// `health`: connections, calls in flight on each, and the part of the reference it must reach.
const SHAPES: [(usize, usize, f64); 2] = [(1, 1, 0.80), (16, 8, 0.70)];

pub(super) fn health(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let home = Home::new(places)?;
    let (ours, bare) = (home.start()?, server::reference(places, REFERENCE)?);
    let params = [json!({})];
    let bytes = home.answer_bytes(ours.port, "health", &json!({}))?;
    let mut figures = Vec::new();
    for (connections, in_flight, least) in SHAPES {
        let arms = vec![call("ours", ours.port, "health", &params), echo("bare", bare.port, "health", &params, bytes)];
        let measured = compare(&home, arms, (connections, in_flight), quick)?;
        let name = format!("{connections}x{in_flight}, answers of {bytes} bytes");
        figures.extend(beside(&measured, "health", &name, ("calls/s", least, Some(TAIL)))?);
    }
    bare.stop()?;
    ours.stop()?;
    Ok(figures)
}

/// Two gateways, one with few sessions and one with many, and the reference.
///
/// A gateway keeps what it answered until a session changes, so that asking the same again shows how fast it finds that.
/// The targets are for what has to be listed; the answer that was kept is a figure of its own.
pub(super) fn sessions(places: &Places, count: usize, quick: bool) -> Result<Vec<Figure>> {
    let (few, many) = (Home::new(places)?, Home::new(places)?);
    let (with_few, with_many) = (few.start()?, many.start()?);
    let bare = server::reference(places, REFERENCE)?;
    few.fill(with_few.port, FEW)?;
    say(&format!("storing {count} sessions"));
    many.fill(with_many.port, count)?;
    let (method, again, anew) = ("sessions.list", [json!({"limit": ROWS})], one_list_in_many_ways(ROWS));
    let as_few = one_list_in_many_ways(FEW);
    let bytes = many.answer_bytes(with_many.port, method, &json!({"limit": ROWS}))?;
    let mut figures = Vec::new();
    for (connections, in_flight, _) in SHAPES {
        let arms = vec![call("ours", with_many.port, method, &anew), echo("bare", bare.port, method, &anew, bytes)];
        let measured = compare(&many, arms, (connections, in_flight), quick)?;
        let stored = format!("{connections}x{in_flight}, {count} stored");
        let shape = format!("{stored}, {ROWS} rows");
        figures.extend(beside(&measured, "sessions", &format!("{shape}, {bytes} bytes"), ("calls/s", SESSIONS, None))?);
        let arms = vec![call("few", with_few.port, method, &as_few), call("ours", with_many.port, method, &as_few)];
        let measured = compare(&many, arms, (connections, in_flight), quick)?;
        let name = format!("{stored}, {FEW} rows, beside {FEW} stored");
        let pair = (measured.get("ours")?, measured.get("few")?);
        figures.push(part("sessions", name, pair, ("calls/s", "of few", MANY)));
        let arms = vec![call("ours", with_many.port, method, &again), echo("bare", bare.port, method, &again, bytes)];
        let measured = compare(&many, arms, (connections, in_flight), quick)?;
        let (name, pair) = (format!("{shape}, kept answer"), (measured.get("ours")?, measured.get("bare")?));
        figures.push(part("sessions", name, pair, ("calls/s", "of bare", 0.0)).target(Target::None));
    }
    bare.stop()?;
    with_few.stop()?;
    with_many.stop()?;
    Ok(figures)
}

/// Parameters that all ask for the same rows, each in other words: many more than a gateway keeps answers, so that none
/// is still there when its turn comes again.
fn one_list_in_many_ways(rows: usize) -> Vec<Value> {
    let ways = 0..1_usize << SAYS_NOTHING.len();
    let way = |way: usize| {
        let said = SAYS_NOTHING.iter().enumerate().filter(|(place, _)| way & (1 << place) != 0);
        let mut params: Map<String, Value> = said.map(|(_, name)| ((*name).to_owned(), json!(false))).collect();
        params.insert("limit".to_owned(), json!(rows));
        Value::Object(params)
    };
    ways.map(way).collect()
}

pub(super) fn handshakes(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let home = Home::new(places)?;
    let (ours, bare) = (home.start()?, server::reference(places, REFERENCE)?);
    let arm = |name: &str, port: u16, token: Option<&str>| {
        let ask = Ask::Handshake { token: token.map(str::to_owned) };
        Arm { name: name.to_owned(), port, ask }
    };
    let mut figures = Vec::new();
    for connections in [1, 16] {
        let arms = vec![arm("ours", ours.port, Some(TOKEN)), arm("bare", bare.port, None)];
        let measured = compare(&home, arms, (connections, 1), quick)?;
        let name = format!("{connections} at once");
        figures.extend(beside(&measured, "handshakes", &name, ("/s", HANDSHAKES, None))?);
    }
    bare.stop()?;
    ours.stop()?;
    Ok(figures)
}

pub(super) fn http(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let home = Home::new(places)?;
    let (ours, bare) = (home.start()?, server::reference(places, REFERENCE)?);
    let arm = |name: &str, port: u16| {
        let ask = Ask::Get { path: "/health".to_owned() };
        Arm { name: name.to_owned(), port, ask }
    };
    let mut figures = Vec::new();
    for connections in [1, 16] {
        let arms = vec![arm("ours", ours.port), arm("bare", bare.port)];
        let measured = compare(&home, arms, (connections, 1), quick)?;
        let name = format!("GET /health, {connections} connections");
        figures.extend(beside(&measured, "http", &name, ("/s", HTTP, Some(TAIL)))?);
    }
    bare.stop()?;
    ours.stop()?;
    Ok(figures)
}

/// The arm `ours` beside the arm `bare`: the rate, and with a bound on it the tail of the latency.
fn beside(
    measured: &Arms,
    suite: &'static str,
    name: &str,
    (unit, least, tail): (&'static str, f64, Option<f64>),
) -> Result<Vec<Figure>> {
    let (ours, bare) = (measured.get("ours")?, measured.get("bare")?);
    let (spread, reference) = (ours.latency(), bare.latency());
    let mut tail_figure = Figure::new(suite, format!("{name}, p99"), spread.p99_us, "us").times(reference.p99_us);
    if let Some(most) = tail {
        tail_figure = tail_figure.target(Target::AtMost(most));
    }
    Ok(vec![part(suite, name.to_owned(), (ours, bare), (unit, "of bare", least)), tail_figure])
}

/// One arm's rate as a part of another's.
fn part(
    suite: &'static str,
    name: String,
    (ours, reference): (&Rounds, &Rounds),
    (unit, how, least): (&'static str, &'static str, f64),
) -> Figure {
    let latencies: Value = json!({"latency": ours.latency(), "referenceLatency": reference.latency()});
    Figure::new(suite, name, ours.rate(), unit)
        .beside(reference.rate())
        .compared(ours.part_of(reference), how)
        .target(Target::AtLeast(least))
        .details(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_asked_for_in_more_ways_than_answers_are_kept() {
        let ways: std::collections::HashSet<String> =
            one_list_in_many_ways(ROWS).iter().map(Value::to_string).collect();
        assert_eq!(ways.len(), 256);
        assert!(ways.contains(&json!({"limit": ROWS}).to_string()));
    }
}
