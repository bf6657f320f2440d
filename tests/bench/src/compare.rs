//! One client process against several servers in turns: the same work, the same time each, then again.
//!
//! The bench writes a [`Comparison`] and reads a [`Turn`] per arm and round. What a call is differs by arm: a method of a
//! gateway, a message to the reference that answers with as many bytes, a `GET`, or a whole handshake.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::device::Device;
use crate::get::Getter;
use crate::numbers::{Samples, Spread};
use crate::wire::{self, Wire};

/// What is compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    /// The servers and what is asked of them.
    pub arms: Vec<Arm>,
    /// Connections to each.
    pub connections: usize,
    /// Calls in flight on each connection. Handshakes and `GET`s go one after the other.
    pub in_flight: usize,
    /// How often every arm has its turn.
    pub rounds: usize,
    /// How long a turn is.
    pub slice: Duration,
}

/// A server and what is asked of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Arm {
    /// Names it in the report.
    pub name: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked of a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    /// A method of a gateway.
    Call {
        /// The gateway's token.
        token: String,
        /// The method.
        method: String,
        /// Its parameters, call after call in turn over all connections; at least one.
        params: Vec<Value>,
    },
    /// The same text to the reference, which answers with so many bytes.
    Echo {
        /// The method.
        method: String,
        /// Its parameters, likewise.
        params: Vec<Value>,
        /// Bytes of the gateway's answer.
        answer_bytes: usize,
    },
    /// A `GET` on a connection that stays open.
    Get {
        /// The path.
        path: String,
    },
    /// A WebSocket, and with a token the gateway's handshake on it. The client signs in any case.
    Handshake {
        /// The gateway's token.
        token: Option<String>,
    },
}

/// What one arm did in one turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// The arm's name.
    pub arm: String,
    /// Calls per second over all connections.
    pub calls_per_second: f64,
    /// From a request's writing to its answer.
    pub latency: Spread,
    /// Calls that were not answered with success.
    pub failed: u64,
}

/// Carries out `comparison`.
///
/// # Errors
/// A server cannot be reached, or a connection broke.
pub async fn run(comparison: &Comparison, mut report: impl FnMut(&Turn) -> Result<()>) -> Result<()> {
    let mut arms = Vec::new();
    for arm in &comparison.arms {
        let mut lanes = Vec::new();
        let requests = Requests::of(&arm.ask, comparison.in_flight);
        for number in 0..comparison.connections {
            lanes.push(Lane::open(arm, number, requests.clone()).await?);
        }
        arms.push((arm.name.as_str(), lanes));
    }
    for round in 0..comparison.rounds {
        // Another one first each time, so that none profits from its place.
        for place in 0..arms.len() {
            let count = arms.len();
            let (name, lanes) = arms.get_mut((round + place) % count).context("no arm")?;
            let (back, turn) = take_turn(std::mem::take(lanes), name, comparison.slice).await?;
            *lanes = back;
            report(&turn)?;
        }
    }
    Ok(())
}

async fn take_turn(lanes: Vec<Lane>, name: &str, slice: Duration) -> Result<(Vec<Lane>, Turn)> {
    let began = Instant::now();
    let end = began + slice;
    let mut tasks = JoinSet::new();
    for mut lane in lanes {
        tasks.spawn(async move {
            let tally = lane.until(end).await?;
            anyhow::Ok((lane, tally))
        });
    }
    let (mut back, mut sum) = (Vec::new(), Tally::default());
    while let Some(done) = tasks.join_next().await {
        let (lane, tally) = done??;
        sum.calls += tally.calls;
        sum.failed += tally.failed;
        sum.samples.append(tally.samples);
        back.push(lane);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let calls_per_second = sum.calls as f64 / began.elapsed().as_secs_f64();
    let (arm, latency) = (name.to_owned(), sum.samples.spread());
    Ok((back, Turn { arm, calls_per_second, latency, failed: sum.failed }))
}

/// What a lane did.
#[derive(Default)]
struct Tally {
    calls: u64,
    failed: u64,
    samples: Samples,
}

impl Tally {
    fn note(&mut self, began: Instant, good: bool) {
        self.calls += 1;
        self.failed += u64::from(!good);
        self.samples.push(began.elapsed());
    }
}

/// One connection of an arm; for handshakes one after the other.
enum Lane {
    Calls(Calls),
    Getter(Getter),
    Knocker(Knocker),
}

impl Lane {
    async fn open(arm: &Arm, number: usize, requests: Requests) -> Result<Self> {
        let port = arm.port;
        Ok(match &arm.ask {
            Ask::Call { token, .. } => {
                let device = Device::numbered(u8::try_from(number % 200)?)?;
                let wire = Wire::connect_as(port, token, number, &device).await?;
                Self::Calls(Calls { wire, requests, answers_name_it: true })
            }
            Ask::Echo { answer_bytes, .. } => {
                let wire = Wire::open(port, &format!("echo?bytes={answer_bytes}"), number).await?;
                Self::Calls(Calls { wire, requests, answers_name_it: false })
            }
            Ask::Get { path } => Self::Getter(Getter::open(port, path, number).await?),
            Ask::Handshake { token } => {
                let device = Device::numbered(u8::try_from(number % 200)?)?;
                Self::Knocker(Knocker { port, token: token.clone(), device, number })
            }
        })
    }

    async fn until(&mut self, end: Instant) -> Result<Tally> {
        match self {
            Self::Calls(calls) => calls.until(end).await,
            Self::Getter(getter) => {
                let mut tally = Tally::default();
                while Instant::now() < end {
                    let began = Instant::now();
                    tally.note(began, getter.get().await? == 200);
                }
                Ok(tally)
            }
            Self::Knocker(knocker) => {
                let mut tally = Tally::default();
                while Instant::now() < end {
                    let began = Instant::now();
                    knocker.knock().await?;
                    tally.note(began, true);
                }
                Ok(tally)
            }
        }
    }
}

/// The texts of an arm's calls, made before the time runs. All its connections take them in turn.
#[derive(Clone)]
struct Requests {
    /// By slot, and there by the number of the parameters.
    texts: Arc<[Vec<Utf8Bytes>]>,
    next: Arc<AtomicUsize>,
}

impl Requests {
    fn of(ask: &Ask, in_flight: usize) -> Self {
        let texts = match ask {
            Ask::Call { method, params, .. } | Ask::Echo { method, params, .. } => (0..in_flight)
                .map(|slot| {
                    let id = slot.to_string();
                    params.iter().map(|params| wire::request(&id, method, params).into()).collect()
                })
                .collect(),
            Ask::Get { .. } | Ask::Handshake { .. } => Arc::default(),
        };
        Self { texts, next: Arc::default() }
    }

    fn slots(&self) -> usize {
        self.texts.len()
    }

    /// The next call's text, with the id of a slot.
    fn next(&self, slot: usize) -> Result<Utf8Bytes> {
        let texts = self.texts.get(slot).context("no such slot")?;
        let number = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(texts.len()).context("no parameters")?;
        texts.get(number).cloned().context("no such parameters")
    }
}

/// A WebSocket with calls in flight.
struct Calls {
    wire: Wire,
    requests: Requests,
    /// Whether an answer says which request it is for; the reference answers in order.
    answers_name_it: bool,
}

impl Calls {
    /// Keeps every slot busy until `end`, and then waits for what is left.
    async fn until(&mut self, end: Instant) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut began: Vec<Option<Instant>> = vec![None; self.requests.slots()];
        let mut in_order = VecDeque::new();
        for slot in 0..self.requests.slots() {
            self.wire.feed(self.requests.next(slot)?).await?;
            in_order.push_back(slot);
            if let Some(began) = began.get_mut(slot) {
                *began = Some(Instant::now());
            }
        }
        self.wire.flush().await?;
        let mut left = self.requests.slots();
        while left > 0 {
            let mut text = Some(self.wire.next().await?);
            while let Some(frame) = text {
                let (slot, good) = self.answered(&frame, &mut in_order);
                if let Some(Some(at)) = slot.and_then(|slot| began.get_mut(slot)).map(Option::take)
                    && let Some(slot) = slot
                {
                    tally.note(at, good);
                    left -= 1;
                    if Instant::now() < end {
                        self.wire.feed(self.requests.next(slot)?).await?;
                        in_order.push_back(slot);
                        left += 1;
                        if let Some(began) = began.get_mut(slot) {
                            *began = Some(Instant::now());
                        }
                    }
                }
                text = self.wire.next_now()?;
            }
            self.wire.flush().await?;
        }
        Ok(tally)
    }

    /// Which slot a text answers, and whether with success.
    fn answered(&self, text: &Utf8Bytes, in_order: &mut VecDeque<usize>) -> (Option<usize>, bool) {
        if !self.answers_name_it {
            return (in_order.pop_front(), true);
        }
        // Something else is an event.
        let Some((id, good)) = wire::answer(text) else { return (None, true) };
        in_order.clear();
        (id.parse().ok(), good)
    }
}

/// Comes and goes.
struct Knocker {
    port: u16,
    token: Option<String>,
    device: Device,
    number: usize,
}

impl Knocker {
    async fn knock(&mut self) -> Result<()> {
        // Another address each time: a closed connection keeps its port for a minute.
        self.number += 1;
        match &self.token {
            Some(token) => drop(Wire::connect_as(self.port, token, self.number, &self.device).await?),
            None => {
                let wire = Wire::open(self.port, "echo", self.number).await?;
                let proof = self.device.proof("token", "285aa08c-6437-4302-ad63-9a9553f4099a");
                drop(wire);
                // What nobody reads might not be made, and would then cost this arm nothing.
                std::hint::black_box(&proof);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_arm_s_connections_take_its_parameters_in_turn() {
        let params = vec![json!({"n": 1}), json!({"n": 2})];
        let requests = Requests::of(&Ask::Echo { method: "m".to_owned(), params, answer_bytes: 1 }, 2);
        let other = requests.clone();
        assert_eq!(requests.slots(), 2);
        let texts = [requests.next(0), other.next(1), requests.next(1)].map(Result::unwrap);
        let wanted = [("0", 1), ("1", 2), ("1", 1)].map(|(id, n)| wire::request(id, "m", &json!({"n": n})));
        assert_eq!(texts.each_ref().map(|text| text.as_str()), wanted.each_ref().map(String::as_str));
        assert!(requests.next(2).is_err());
    }
}
