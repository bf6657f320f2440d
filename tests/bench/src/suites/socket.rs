//! Methods that do nothing through the WebSocket, against `health` on the same connections.

use std::time::Duration;

use anyhow::{Result, bail};
use leanclaw_bench::load::{Report, Work};
use serde_json::json;

use crate::guests::{self, Language};
use crate::options::Places;
use crate::report::{Figure, Target};
use crate::server::Home;
use crate::suites::rounds::Arms;

const FRESH: &str = "bench-fresh";
const RESIDENT: &str = "bench-resident";

/// Connections, calls in flight on each, and the part of `health` that a call on a fresh and on a resident instance
/// must reach.
const SHAPES: [(usize, usize, f64, f64); 2] = [(1, 1, 0.70, 0.85), (16, 8, 0.35, 0.60)];

pub(crate) fn run(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let component = std::fs::read(Language::Rust.component(places)?)?;
    let home = Home::new(places)?;
    guests::install(&home.plugins(), &guests::manifest(FRESH, json!({})), &component)?;
    guests::install(&home.plugins(), &guests::manifest(RESIDENT, json!({"lifecycle": "resident"})), &component)?;
    let server = home.start()?;
    home.grant_all(server.port)?;
    let mut figures = Vec::new();
    for (connections, in_flight, fresh, resident) in SHAPES {
        let measured = measure(&home, server.port, (connections, in_flight), quick)?;
        let shape = format!("{connections}x{in_flight}");
        figures.push(figure(&measured, FRESH, &format!("{shape} fresh"), fresh)?);
        figures.push(figure(&measured, RESIDENT, &format!("{shape} resident"), resident)?);
    }
    server.stop()?;
    Ok(figures)
}

fn measure(home: &Home, port: u16, shape: (usize, usize), quick: bool) -> Result<Arms> {
    let methods = vec!["health".to_owned(), format!("{FRESH}.run"), format!("{RESIDENT}.run")];
    let (rounds, slice) = (if quick { 6 } else { 30 }, Duration::from_millis(300));
    let mut measured = Arms::default();
    let warm_up = Work::Slices { methods: methods.clone(), rounds: 1, slice };
    home.load(port, shape, warm_up, |_| Ok(()))?;
    home.load(port, shape, Work::Slices { methods, rounds, slice }, |report| {
        let Report::Slice { method, calls_per_second, latency, failed } = report else { return Ok(()) };
        if failed > 0 {
            bail!("{failed} calls of {method} failed");
        }
        measured.add(method, calls_per_second, latency);
        Ok(())
    })?;
    Ok(measured)
}

fn figure(measured: &Arms, plugin: &str, name: &str, least: f64) -> Result<Figure> {
    let (health, ours) = (measured.get("health")?, measured.get(&format!("{plugin}.run"))?);
    let (spread, beside) = (ours.latency(), health.latency());
    let name = format!(
        "{name} (latency {:.0} us, p99 {:.0} us; health {:.0}, {:.0})",
        spread.median_us, spread.p99_us, beside.median_us, beside.p99_us
    );
    Ok(Figure::new("socket", name, ours.rate(), "calls/s")
        .beside(health.rate())
        .compared(ours.part_of(health), "of health")
        .target(Target::AtLeast(least))
        .details(json!({"latency": spread, "healthLatency": beside})))
}
