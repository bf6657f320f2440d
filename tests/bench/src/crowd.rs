//! Many connections that do nothing, and an event that reaches all of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::device::Device;
use crate::numbers::milliseconds;
use crate::wire::Wire;

/// Handshakes that run at once while a crowd comes; below what a gateway lets one address have.
const AT_ONCE: usize = 16;

/// Where a crowd goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Crowd {
    /// The server's port on 127.0.0.1.
    pub port: u16,
    /// A gateway's token; none for the reference.
    pub token: Option<String>,
    /// The reference's path.
    pub path: String,
    /// Connections.
    pub connections: usize,
    /// What they do.
    pub then: Then,
}

/// What a crowd does once it is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Then {
    /// Nothing, until standard input ends. `strangers` more come from one address and do not finish their handshake.
    Wait {
        /// How many.
        strangers: usize,
    },
    /// For each line of standard input one more causes an event, and everyone waits for it.
    Hear,
}

/// What a crowd tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Heard {
    /// Everyone is there and listens; of the strangers so many were let in.
    There {
        /// Strangers whose WebSocket was opened.
        strangers: usize,
    },
    /// An event reached everyone.
    Event {
        /// From what caused it to the last one's reading, in milliseconds.
        last_ms: f64,
        /// From the first one's reading to the last one's, in milliseconds.
        spread_ms: f64,
        /// Bytes of the event.
        bytes: usize,
    },
}

/// Gathers a crowd.
///
/// # Errors
/// The server cannot be reached, or a connection broke.
pub async fn run(crowd: &Crowd, mut report: impl FnMut(&Heard) -> Result<()>) -> Result<()> {
    let device = Device::numbered(1)?;
    let come = |number: usize| {
        let device = &device;
        async move {
            match &crowd.token {
                Some(token) => Wire::connect_as(crowd.port, token, number, device).await,
                None => Wire::open(crowd.port, &crowd.path, number).await,
            }
        }
    };
    // The first pairs the device; the others find it paired.
    let mut wires = vec![come(0).await?];
    let others = stream::iter(1..crowd.connections).map(come).buffer_unordered(AT_ONCE);
    wires.append(&mut others.try_collect().await?);
    match crowd.then {
        Then::Wait { strangers } => {
            let mut let_in = Vec::new();
            for _ in 0..strangers {
                let_in.extend(Wire::open(crowd.port, &crowd.path, 1).await.ok());
            }
            serves_the_others(crowd, &mut wires).await?;
            report(&Heard::There { strangers: let_in.len() })?;
            drop(let_in);
            // Until the bench has seen enough.
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
            Ok(())
        }
        Then::Hear => hear(crowd, wires, report).await,
    }
}

async fn serves_the_others(crowd: &Crowd, wires: &mut [Wire]) -> Result<()> {
    let last = wires.last_mut().context("nobody came")?;
    if crowd.token.is_some() {
        last.call_unread("health", &json!({})).await?;
    } else {
        last.send("still there?").await?;
        last.text().await?;
    }
    Ok(())
}

async fn hear(crowd: &Crowd, mut wires: Vec<Wire>, mut report: impl FnMut(&Heard) -> Result<()>) -> Result<()> {
    // Who causes the event does not listen.
    let mut caller = if let Some(token) = &crowd.token {
        let mut caller = Wire::connect_as(crowd.port, token, 0, &Device::numbered(1)?).await?;
        caller.call_unread("sessions.create", &json!({"key": "heard"})).await?;
        for wire in &mut wires {
            wire.call_unread("sessions.subscribe", &json!({})).await?;
        }
        caller
    } else {
        Wire::open(crowd.port, &format!("{}&mute=true", crowd.path), 0).await?
    };
    report(&Heard::There { strangers: 0 })?;
    for round in 0_u64.. {
        if !next_line().await? {
            return Ok(());
        }
        let mut listeners = tokio::task::JoinSet::new();
        for mut wire in wires.drain(..) {
            listeners.spawn(async move {
                let bytes = next_event(&mut wire).await?;
                anyhow::Ok((wire, Instant::now(), bytes))
            });
        }
        // So that everyone listens before it is said.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        match &crowd.token {
            Some(_) => {
                let params = json!({"key": "heard", "label": format!("round {round:08}")});
                caller.call_unread("sessions.patch", &params).await?;
            }
            None => caller.send(format!("round {round}")).await?,
        }
        let mut heard = Vec::new();
        let mut bytes = 0;
        while let Some(done) = listeners.join_next().await {
            let (wire, at, read) = done??;
            wires.push(wire);
            heard.push(at);
            bytes = read;
        }
        let (first, last) = (heard.iter().min().context("nobody heard")?, heard.iter().max().context("nobody heard")?);
        let (last_ms, spread_ms) = (milliseconds(*last - began), milliseconds(*last - *first));
        report(&Heard::Event { last_ms, spread_ms, bytes })?;
    }
    Ok(())
}

/// Waits for a line of standard input; false at its end.
async fn next_line() -> Result<bool> {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next().transpose()).await??;
    Ok(line.is_some())
}

/// Waits for the event; a tick that comes first is not it.
async fn next_event(wire: &mut Wire) -> Result<usize> {
    for _ in 0..100 {
        let text = wire.text().await?;
        let other = ["tick", "health", "presence"];
        let is_other = |name: &str| text.as_str().starts_with(&format!("{{\"type\":\"event\",\"event\":\"{name}\""));
        if !other.into_iter().any(is_other) {
            return Ok(text.len());
        }
    }
    bail!("the event did not come")
}
