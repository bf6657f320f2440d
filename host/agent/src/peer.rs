//! The host as the agent sees it: what was asked of it and not answered yet, and what it said unasked.
//!
//! Whatever waits for one thing takes in everything else that arrives meanwhile: answers are kept for whoever asked, requests
//! wait for their turn, a cancel and follow-ups are noted for the turn that runs. It decides nothing.

use std::collections::{HashMap, VecDeque};

use agent_client_protocol_schema::v1::{CancelNotification, Error, ErrorCode, PromptResponse, StopReason};
use leanclaw_types::agent::{FollowUp, MODEL_EVENT, ModelStreamed, TURN_MESSAGE};
use leanclaw_types::model::ModelEvent;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::frame::{self, Incoming, Params, Rejected};
use crate::link::{Link, MAX_LINE_BYTES, Received, Wait};

/// The most requests that wait while a turn runs.
const MAX_WAITING_REQUESTS: usize = 64;

/// The host is gone: nothing that is done from here on reaches anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// A request of the host's.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: Value,
    pub(crate) method: String,
    pub(crate) params: Params,
}

/// A question to the host that is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(i64);

/// What is noted for the turn that runs.
#[derive(Debug, Default)]
struct Noted {
    session: String,
    is_cancelled: bool,
    follow_ups: Vec<String>,
    /// The model call that is listened to.
    call: Option<String>,
    events: VecDeque<ModelEvent>,
}

type Answer = Result<Box<RawValue>, Error>;

pub(crate) struct Peer<'l> {
    link: &'l mut dyn Link,
    is_gone: bool,
    last_id: i64,
    /// None while nothing has come.
    answers: HashMap<i64, Option<Answer>>,
    requests: VecDeque<Request>,
    turn: Option<Noted>,
}

impl<'l> Peer<'l> {
    pub(crate) fn new(link: &'l mut dyn Link) -> Self {
        Self { link, is_gone: false, last_id: 0, answers: HashMap::new(), requests: VecDeque::new(), turn: None }
    }

    fn send(&mut self, line: serde_json::Result<String>) {
        // What is sent is made of strings, numbers and JSON, all of which can be written.
        let Ok(line) = line else { return };
        self.is_gone |= self.link.send(&line).is_err();
    }

    pub(crate) fn notify(&mut self, method: &str, params: &impl Serialize) {
        self.send(frame::call(None, method, params));
    }

    pub(crate) fn respond(&mut self, id: &Value, result: &Result<Value, Error>) {
        self.send(frame::answer(id, result));
    }

    /// Asks the host without waiting for the answer.
    pub(crate) fn ask(&mut self, method: &str, params: &impl Serialize) -> Ticket {
        self.last_id = self.last_id.saturating_add(1);
        self.answers.insert(self.last_id, None);
        self.send(frame::call(Some(&self.last_id.into()), method, params));
        Ticket(self.last_id)
    }

    /// The answer, if it is there.
    pub(crate) fn answer<T: DeserializeOwned>(&mut self, ticket: Ticket) -> Option<Result<T, Error>> {
        self.answers.get(&ticket.0)?.as_ref()?;
        let answer = self.answers.remove(&ticket.0)??;
        Some(answer.and_then(|raw| {
            serde_json::from_str(raw.get())
                .map_err(|error| Error::new(ErrorCode::InternalError.into(), format!("The host's answer: {error}")))
        }))
    }

    /// Nobody waits for this answer any more; it is thrown away when it comes.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.answers.remove(&ticket.0);
    }

    /// Waits for an answer, however long it takes.
    pub(crate) fn wait_for<T: DeserializeOwned>(&mut self, ticket: Ticket) -> Result<Result<T, Error>, Gone> {
        loop {
            if let Some(answer) = self.answer(ticket) {
                return Ok(answer);
            }
            self.take(Wait::Forever)?;
        }
    }

    /// Waits for an answer until the turn is cancelled; none then.
    pub(crate) fn wait_unless_cancelled<T: DeserializeOwned>(
        &mut self,
        ticket: Ticket,
    ) -> Result<Option<Result<T, Error>>, Gone> {
        loop {
            if self.is_cancelled() {
                self.forget(ticket);
                return Ok(None);
            }
            if let Some(answer) = self.answer(ticket) {
                return Ok(Some(answer));
            }
            self.take(Wait::Forever)?;
        }
    }

    /// The host's next request.
    pub(crate) fn next_request(&mut self) -> Result<Request, Gone> {
        loop {
            if let Some(request) = self.requests.pop_front() {
                return Ok(request);
            }
            self.take(Wait::Forever)?;
        }
    }

    /// Takes in what has arrived, without waiting.
    pub(crate) fn drain(&mut self) {
        while !self.is_gone && matches!(self.take(Wait::Not), Ok(true)) {}
    }

    /// Takes in one line; whether there was one.
    pub(crate) fn take(&mut self, wait: Wait) -> Result<bool, Gone> {
        if self.is_gone {
            return Err(Gone);
        }
        match self.link.receive(wait) {
            Received::Line(line) => match frame::decode(&line) {
                Ok(incoming) => self.route(incoming),
                Err(Rejected { id, error }) => self.respond(&id, &Err(error)),
            },
            Received::TooLong => {
                let problem = format!("A line was longer than {MAX_LINE_BYTES} bytes and was skipped.");
                self.respond(&Value::Null, &Err(Error::new(ErrorCode::InvalidRequest.into(), problem)));
            }
            Received::Nothing => return Ok(false),
            Received::Closed => {
                self.is_gone = true;
                return Err(Gone);
            }
        }
        Ok(true)
    }

    fn route(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Response { id, result } => {
                // An answer that nobody asked for is nobody's.
                if let Some(waiting) = id.as_i64().and_then(|id| self.answers.get_mut(&id)) {
                    *waiting = Some(result);
                }
            }
            Incoming::Request { id, method, params } => self.note_request(Request { id, method, params }),
            Incoming::Notification { method, params } => self.note(&method, &params),
        }
    }

    fn note_request(&mut self, request: Request) {
        let is_full = self.requests.len() >= MAX_WAITING_REQUESTS;
        let is_running = request.method == "session/prompt"
            && self.turn.as_ref().is_some_and(|turn| session_of(&request.params).as_ref() == Some(&turn.session));
        let problem = if is_running {
            format!("A turn of this session is running; cancel it, or send `{TURN_MESSAGE}`.")
        } else if is_full {
            format!("{MAX_WAITING_REQUESTS} requests are waiting already; ask again later.")
        } else {
            return self.requests.push_back(request);
        };
        self.respond(&request.id, &Err(Error::new(ErrorCode::InvalidRequest.into(), problem)));
    }

    /// A notification has no answer, so one that cannot be used is passed over.
    fn note(&mut self, method: &str, params: &Params) {
        match method {
            "session/cancel" => {
                if let Ok(CancelNotification { session_id, .. }) = params.read() {
                    self.cancel(&session_id.0);
                }
            }
            MODEL_EVENT => {
                if let (Some(turn), Ok(streamed)) = (&mut self.turn, params.read::<ModelStreamed>())
                    && turn.call.as_ref() == Some(&streamed.call_id)
                {
                    turn.events.push_back(streamed.event);
                }
            }
            TURN_MESSAGE => {
                if let (Some(turn), Ok(message)) = (&mut self.turn, params.read::<FollowUp>())
                    && turn.session == message.session_id
                {
                    turn.follow_ups.push(message.text);
                }
            }
            _ => {}
        }
    }

    fn cancel(&mut self, session: &str) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.session == session) {
            turn.is_cancelled = true;
        }
        // Prompts of this session that have not begun end as well.
        let mut cancelled = Vec::new();
        for request in std::mem::take(&mut self.requests) {
            if request.method == "session/prompt" && session_of(&request.params).as_deref() == Some(session) {
                cancelled.push(request.id);
            } else {
                self.requests.push_back(request);
            }
        }
        let response = serde_json::to_value(PromptResponse::new(StopReason::Cancelled));
        for id in cancelled {
            let result = response.as_ref().map(Value::clone).map_err(|_| Error::internal_error());
            self.respond(&id, &result);
        }
    }

    /// A turn of `session` begins.
    pub(crate) fn begin_turn(&mut self, session: &str) {
        self.turn = Some(Noted { session: session.to_owned(), ..Noted::default() });
    }

    /// The turn has ended; what was noted for it is forgotten.
    pub(crate) fn end_turn(&mut self) {
        self.turn = None;
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_gone || self.turn.as_ref().is_some_and(|turn| turn.is_cancelled)
    }

    /// Follow-ups that came since this was last asked.
    pub(crate) fn take_follow_ups(&mut self) -> Vec<String> {
        self.turn.as_mut().map(|turn| std::mem::take(&mut turn.follow_ups)).unwrap_or_default()
    }

    /// Listens to the events of this model call, and of no other any more.
    pub(crate) fn listen(&mut self, call: Option<String>) {
        if let Some(turn) = &mut self.turn {
            turn.call = call;
            turn.events.clear();
        }
    }

    pub(crate) fn next_event(&mut self) -> Option<ModelEvent> {
        self.turn.as_mut()?.events.pop_front()
    }
}

/// The session that a request is about.
fn session_of(params: &Params) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct About {
        session_id: String,
    }
    params.read::<About>().ok().map(|about| about.session_id)
}
