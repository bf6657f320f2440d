//! Load on a gateway: many connections, each with some calls in flight.
//!
//! The bench writes a [`Plan`] as the only argument of `bench-client` and reads [`Report`]s, one JSON text per line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::numbers::{Samples, Spread};
use crate::wire::{self, Wire};

/// What the client is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The gateway's port on 127.0.0.1.
    pub port: u16,
    /// Its token.
    pub token: String,
    /// Connections.
    pub connections: usize,
    /// Calls in flight on each connection.
    pub in_flight: usize,
    /// The calls.
    pub work: Work,
}

/// Which calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Work {
    /// Each method for a while, one after the other, all on the same connections; then again.
    Slices {
        /// The methods.
        methods: Vec<String>,
        /// How often all of them.
        rounds: usize,
        /// How long each time.
        slice: Duration,
    },
    /// A number of calls of one plugin: `run`, but every hundredth `trap` and every thousandth `spin`.
    Soak {
        /// The plugin's id.
        plugin: String,
        /// How many calls in all.
        calls: u64,
        /// A [`Report::Done`] after this many each time.
        report_every: u64,
    },
}

/// What the client tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// One method in one round.
    Slice {
        /// The method.
        method: String,
        /// Calls per second over all connections.
        calls_per_second: f64,
        /// From a request's writing to its response.
        latency: Spread,
        /// Calls that were not answered with `ok`.
        failed: u64,
    },
    /// How far a soak is.
    Done {
        /// Calls answered so far.
        calls: u64,
        /// Answers that were not the expected ones: a `run` that failed, a `trap` that did not.
        unexpected: u64,
    },
}

/// Carries out `plan`.
///
/// # Errors
/// The gateway cannot be reached, or a connection broke.
pub async fn run(plan: &Plan, mut report: impl FnMut(&Report) -> Result<()>) -> Result<()> {
    let mut wires = Vec::new();
    for _ in 0..plan.connections {
        wires.push(Wire::connect(plan.port, &plan.token).await?);
    }
    match &plan.work {
        Work::Slices { methods, rounds, slice } => {
            for round in 0..*rounds {
                // Another one first each time, so that none profits from its place.
                for place in 0..methods.len() {
                    let method = methods.get((round + place) % methods.len()).context("no method")?;
                    let (back, found) = one_slice(wires, method, plan.in_flight, *slice).await?;
                    wires = back;
                    report(&found)?;
                }
            }
            Ok(())
        }
        Work::Soak { plugin, calls, report_every } => {
            soak(wires, plan.in_flight, plugin, *calls, *report_every, report).await
        }
    }
}

async fn one_slice(wires: Vec<Wire>, method: &str, in_flight: usize, slice: Duration) -> Result<(Vec<Wire>, Report)> {
    let began = Instant::now();
    let end = began + slice;
    let mut tasks = tokio::task::JoinSet::new();
    for wire in wires {
        let method = method.to_owned();
        tasks.spawn(async move {
            let mut lane = Lane::new(wire, in_flight);
            let mut sent = 0_u64;
            let mut failed = 0;
            lane.run(
                || {
                    let more = Instant::now() < end;
                    sent += u64::from(more);
                    more.then(|| method.clone())
                },
                |_, ok| failed += u64::from(!ok),
            )
            .await?;
            anyhow::Ok((lane, sent, failed))
        });
    }
    let mut wires = Vec::new();
    let (mut calls, mut failures, mut samples) = (0, 0, Samples::default());
    while let Some(done) = tasks.join_next().await {
        let (lane, sent, failed) = done??;
        calls += sent;
        failures += failed;
        samples.append(lane.samples);
        wires.push(lane.wire);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let calls_per_second = calls as f64 / began.elapsed().as_secs_f64();
    let (method, latency) = (method.to_owned(), samples.spread());
    Ok((wires, Report::Slice { method, calls_per_second, latency, failed: failures }))
}

async fn soak(
    wires: Vec<Wire>,
    in_flight: usize,
    plugin: &str,
    calls: u64,
    report_every: u64,
    mut report: impl FnMut(&Report) -> Result<()>,
) -> Result<()> {
    let (next, done, unexpected) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for wire in wires {
        let (next, done, unexpected) = (Arc::clone(&next), Arc::clone(&done), Arc::clone(&unexpected));
        let (plugin, tell) = (plugin.to_owned(), tell.clone());
        tasks.spawn(async move {
            let choose = || {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let name = match number {
                    _ if number >= calls => return None,
                    _ if number % 1000 == 500 => "spin",
                    _ if number % 100 == 50 => "trap",
                    _ => "run",
                };
                Some(format!("{plugin}.{name}"))
            };
            let answered = |method: &str, ok: bool| {
                unexpected.fetch_add(u64::from(method.ends_with(".run") != ok), Ordering::Relaxed);
                let finished = done.fetch_add(1, Ordering::Relaxed) + 1;
                if finished.is_multiple_of(report_every) || finished == calls {
                    // The receiver lives as long as the tasks.
                    let _ = tell.send(Report::Done { calls: finished, unexpected: unexpected.load(Ordering::Relaxed) });
                }
            };
            Lane::new(wire, in_flight).run(choose, answered).await
        });
    }
    drop(tell);
    while let Some(found) = told.recv().await {
        report(&found)?;
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// One connection with its calls in flight.
struct Lane {
    wire: Wire,
    in_flight: usize,
    samples: Samples,
}

impl Lane {
    fn new(wire: Wire, in_flight: usize) -> Self {
        Self { wire, in_flight, samples: Samples::default() }
    }

    /// Keeps `in_flight` calls going while `choose` names methods; returns when all are answered.
    async fn run(
        &mut self,
        mut choose: impl FnMut() -> Option<String>,
        mut answered: impl FnMut(&str, bool),
    ) -> Result<()> {
        let mut flying: Vec<Option<(String, Instant)>> = vec![None; self.in_flight];
        for (slot, call) in flying.iter_mut().enumerate() {
            *call = self.start(slot, choose()).await?;
        }
        self.wire.flush().await?;
        while flying.iter().any(Option::is_some) {
            let mut text = Some(self.wire.next().await?);
            while let Some(frame) = text {
                if let Some((slot, ok)) = wire::answer(&frame)
                    && let Ok(slot) = slot.parse::<usize>()
                    && let Some(call) = flying.get_mut(slot)
                    && let Some((method, began)) = call.take()
                {
                    self.samples.push(began.elapsed());
                    answered(&method, ok);
                    *call = self.start(slot, choose()).await?;
                }
                text = self.wire.next_now()?;
            }
            self.wire.flush().await?;
        }
        Ok(())
    }

    async fn start(&mut self, slot: usize, method: Option<String>) -> Result<Option<(String, Instant)>> {
        let Some(method) = method else { return Ok(None) };
        let began = Instant::now();
        self.wire.feed(wire::request(&slot.to_string(), &method, &json!({}))).await?;
        Ok(Some((method, began)))
    }
}
