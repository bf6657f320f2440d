//! The conversation with the gateway: a message goes out, events come back, and a connection that is lost is made again.
//!
//! A message has one name (its idempotency key) from when it is sent first, so sending it again asks what became of it and
//! never says it twice. Once it was taken on, it is not sent again at all: then the gateway is asked for the answer it has
//! stored. All of that ends after a bounded number of losses and a bounded time without a connection.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Answer, Ending, Outcome};
use super::screen::Screen;
use super::stored::{self, Found};
use crate::client::{ClientError, GatewayClient};
use crate::commands::gateway;
use crate::report::Advice;

/// What a gateway sends only to clients that say they can show it.
const CAPS: &[&str] = &["tool-events"];
/// How often a connection may be lost within one answer.
const MAX_LOSSES: u32 = 5;
/// How long a connection is tried to be made again.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(60);
/// The pause after the first try that failed; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long one `agent.wait` lasts at most.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How many waits in a row may end without a trace of the message in its session.
const MAX_UNKNOWN_WAITS: u32 = 3;
/// How long an answer that cannot be heard any more is waited for.
const STORED_PATIENCE: Duration = Duration::from_secs(3600);
/// How long a run that is to be ended is waited for.
const ABORT_PATIENCE: Duration = Duration::from_secs(3);
/// A gateway says something at least this often, unless it says otherwise.
const TICK: Duration = Duration::from_secs(30);
/// So many times of its silence are a lost connection, and never less than the shortest.
const SILENT_TICKS: u32 = 3;
const SHORTEST_SILENCE: Duration = Duration::from_secs(10);

/// Said after a loss, when the message was taken on and when that is not known.
const STORED: &str = "Connected again. The answer comes once it has ended, as the gateway stored it.";
const AGAIN: &str = "Connected again. The message is sent again under the same name, so that it counts once.";

/// A reply that has ended.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) run_id: String,
    pub(super) session_key: String,
    pub(super) ending: Ending,
}

/// What the gateway said to a message.
enum Taken {
    /// Its run goes on.
    Run,
    /// Its run has ended.
    Ended,
    /// It was none for an agent: it ended this many runs.
    Stopped(usize),
}

/// Why events do not come any more.
enum Lost {
    /// The connection.
    Connection,
    /// Nothing of the kind.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Lost {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ClientError> for Lost {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Closed { .. } | ClientError::Broken { .. } | ClientError::TimedOut { .. } => Self::Connection,
            other => Self::Failed(other.into()),
        }
    }
}

/// A conversation in one session.
pub(super) struct Talk<'a> {
    gateway: &'a gateway::Found,
    session: String,
    thinking: Option<String>,
    screen: Screen,
    client: Option<GatewayClient>,
    /// The run that goes on.
    run: Option<String>,
}

impl<'a> Talk<'a> {
    /// Nothing is connected yet.
    pub(super) fn new(gateway: &'a gateway::Found, session: String, thinking: Option<String>, screen: Screen) -> Self {
        Self { gateway, session, thinking, screen, client: None, run: None }
    }

    /// Says something and shows the answer. May be given up at any time; [`Talk::interrupt`] then ends the run.
    pub(super) async fn ask(&mut self, message: &str) -> Result<Reply> {
        let run_id = Uuid::new_v4().to_string();
        let mut answer = Answer::new(&run_id);
        if self.client.is_none() {
            self.client = Some(self.gateway.connect_with(CAPS).await?);
        }
        let mut is_taken = false;
        let mut losses = 0;
        let ending = loop {
            let heard = match is_taken {
                false => self.send_and_listen(message, &mut answer, &mut is_taken).await,
                true => self.read_stored(&mut answer).await,
            };
            match heard {
                Ok(ending) => break ending,
                Err(Lost::Failed(error)) => {
                    if !matches!(error.downcast_ref(), Some(ClientError::Refused { .. })) {
                        self.client = None;
                    }
                    self.screen.end_line()?;
                    return Err(error);
                }
                Err(Lost::Connection) => {
                    losses += 1;
                    self.reconnect(losses).await?;
                    answer.begin_again();
                    self.screen.say(if is_taken { STORED } else { AGAIN })?;
                }
            }
        };
        self.run = None;
        self.screen.end_line()?;
        if ending.outcome == Outcome::Done && ending.text.trim().is_empty() {
            self.screen.say("The agent said nothing.")?;
        }
        let session_key = answer.session_key().unwrap_or(&self.session).to_owned();
        Ok(Reply { run_id, session_key, ending })
    }

    async fn send_and_listen(
        &mut self,
        message: &str,
        answer: &mut Answer,
        is_taken: &mut bool,
    ) -> Result<Ending, Lost> {
        let taken = self.send(message, answer.run_id()).await?;
        *is_taken = true;
        match taken {
            Taken::Run => self.listen(answer).await,
            Taken::Ended => self.read_stored(answer).await,
            Taken::Stopped(runs) => {
                let text = format!("{runs} {} ended.", if runs == 1 { "answer was" } else { "answers were" });
                let steps = answer.end(Ending { outcome: Outcome::Done, text, usage: None });
                self.screen.show(steps)?;
                Ok(end_of(answer))
            }
        }
    }

    /// Hands the message to the gateway under its name.
    async fn send(&mut self, message: &str, run_id: &str) -> Result<Taken, Lost> {
        let mut params = json!({"sessionKey": self.session, "message": message, "idempotencyKey": run_id});
        if let (Some(level), Some(params)) = (&self.thinking, params.as_object_mut()) {
            params.insert("thinking".to_owned(), json!(level));
        }
        self.run = Some(run_id.to_owned());
        let client = self.client.as_mut().ok_or(Lost::Connection)?;
        let acknowledged = client.request("chat.send", Some(params)).await?;
        if let (None, Some(stopped)) = (acknowledged.get("runId"), acknowledged.get("runIds").and_then(Value::as_array))
        {
            return Ok(Taken::Stopped(stopped.len()));
        }
        Ok(match acknowledged.get("status").and_then(Value::as_str) {
            Some("ok" | "error" | "aborted" | "timeout") => Taken::Ended,
            _ => Taken::Run,
        })
    }

    /// Shows what events tell of the answer, up to its end.
    async fn listen(&mut self, answer: &mut Answer) -> Result<Ending, Lost> {
        loop {
            if answer.ending().is_some() {
                return Ok(end_of(answer));
            }
            let client = self.client.as_mut().ok_or(Lost::Connection)?;
            let silence = silence(client);
            let event = tokio::time::timeout(silence, client.next_event()).await.map_err(|_| Lost::Connection)??;
            let event = event.ok_or(Lost::Connection)?;
            self.screen.show(answer.hear(&event))?;
        }
    }

    /// Waits for the end of a run of which something was missed, and shows what is stored of it.
    async fn read_stored(&mut self, answer: &mut Answer) -> Result<Ending, Lost> {
        let since = Instant::now();
        let mut unknown_waits = 0;
        let wait = LONGEST_WAIT.min(self.gateway.timeout() / 2);
        let params = json!({"runId": answer.run_id(), "timeoutMs": u64::try_from(wait.as_millis()).unwrap_or(0)});
        loop {
            let client = self.client.as_mut().ok_or(Lost::Connection)?;
            let waited = client.request("agent.wait", Some(params.clone())).await?;
            let found = stored::read(client, &self.session, answer.run_id()).await?;
            if let Some(outcome) = stored::outcome(&waited) {
                let steps = answer.end(stored::ending(outcome, &waited, found));
                self.screen.show(steps)?;
                return Ok(end_of(answer));
            }
            while let Some(event) = client.kept_event() {
                self.screen.show(answer.hear_end(&event))?;
            }
            if answer.ending().is_some() {
                return Ok(end_of(answer));
            }
            unknown_waits = if found == Found::Nothing { unknown_waits + 1 } else { 0 };
            if unknown_waits == MAX_UNKNOWN_WAITS {
                return Err(unknown(&self.session).into());
            }
            if since.elapsed() > STORED_PATIENCE {
                return Err(too_long(&self.session).into());
            }
        }
    }

    /// Connects again after the `losses`th loss, for a while.
    async fn reconnect(&mut self, losses: u32) -> Result<()> {
        self.client = None;
        let lost = format!("The connection to {} was lost.", self.gateway.url());
        if losses > MAX_LOSSES {
            self.screen.end_line()?;
            return Err(given_up(&format!("the connection was lost {losses} times"), &self.session));
        }
        self.screen.say(&format!("{lost} Connecting again ..."))?;
        let since = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.gateway.connect_with(CAPS).await {
                Ok(client) => {
                    self.client = Some(client);
                    return Ok(());
                }
                Err(error) if !may_pass(&error) => return Err(error.into()),
                Err(error) if since.elapsed() > RECONNECT_PATIENCE => {
                    let why =
                        format!("the connection was lost, and for {} s there was no other", since.elapsed().as_secs());
                    return Err(anyhow::Error::from(error).context(given_up(&why, &self.session)));
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Keeps the connection while nothing is said. A gateway that is gone by then is looked for with the next message.
    pub(super) async fn idle(&mut self) {
        while let Some(client) = &mut self.client {
            if !matches!(client.next_event().await, Ok(Some(_))) {
                self.client = None;
            }
        }
        std::future::pending().await
    }

    /// Ends the run that goes on, and waits a moment for that.
    pub(super) async fn interrupt(&mut self) {
        let Some(run_id) = self.run.take() else { return };
        // There may be nobody left to tell.
        let _told = self.screen.end_line();
        let ended = match &mut self.client {
            Some(client) => {
                let params = json!({"sessionKey": self.session, "runId": run_id});
                let abort = client.request("chat.abort", Some(params));
                matches!(tokio::time::timeout(ABORT_PATIENCE, abort).await, Ok(Ok(_)))
            }
            None => false,
        };
        let said = if ended {
            "Ended.".to_owned()
        } else {
            format!("The gateway could not be told; the run {run_id} may go on there.")
        };
        let _told = self.screen.say(&said);
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        if let Some(client) = self.client {
            client.close().await;
        }
    }
}

/// The end that is there.
fn end_of(answer: &Answer) -> Ending {
    let none = || Ending { outcome: Outcome::Done, text: String::new(), usage: None };
    answer.ending().cloned().unwrap_or_else(none)
}

/// How long a gateway may say nothing.
fn silence(client: &GatewayClient) -> Duration {
    let tick = client.hello().pointer("/policy/tickIntervalMs").and_then(Value::as_u64);
    (tick.map_or(TICK, Duration::from_millis) * SILENT_TICKS).max(SHORTEST_SILENCE)
}

/// Whether trying again may help: a program that starts is not there at first, and then not ready.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::ConnectRefused { refusal, .. } => refusal.retryable == Some(true),
        ClientError::Url { .. } | ClientError::Tls { .. } | ClientError::Foreign { .. } => false,
        _ => true,
    }
}

fn given_up(why: &str, session: &str) -> anyhow::Error {
    let advice = Advice::new(format!("{why}; the answer may go on at the gateway"));
    advice.hint(where_it_is(session)).into()
}

fn unknown(session: &str) -> anyhow::Error {
    let advice = Advice::new("the gateway knows nothing of the message any more");
    advice.hint(where_it_is(session)).hint("say it again if it is not there").into()
}

fn too_long(session: &str) -> anyhow::Error {
    Advice::new("the answer did not end within an hour").hint(where_it_is(session)).into()
}

fn where_it_is(session: &str) -> String {
    format!("what there is of it: leanclaw call chat.history '{{\"sessionKey\": \"{session}\"}}'")
}
