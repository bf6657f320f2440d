//! An answer on its way from the socket to a [`ModelStream`]: pieces become events of the stream, those become a model's.
//!
//! It is read no faster than somebody asks for events, so that a slow reader slows the server down and nothing piles up.

use std::collections::VecDeque;

use futures_util::stream;
use leanclaw_types::Failure;
use leanclaw_types::failure::code;
use leanclaw_types::model::{ModelEvent, TokenUsage};
use serde_json::json;

use crate::ModelStream;
use crate::client::Accepted;
use crate::problem::{Problem, Said, set_extra};
use crate::retry::Retry;
use crate::sse::{SseEvent, SseLimits, SseParser};

/// Why an answer cannot be read on.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The provider says so: with the status it would have answered with before the answer had begun.
    Said(u16, Said),
    /// It is not what its format wants, in words.
    Garbled(String),
}

/// Knows one provider's format.
pub(crate) trait Decoder: Send + 'static {
    /// Takes an event of the stream.
    fn event(&mut self, event: &SseEvent, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken>;

    /// Takes an answer that came in one piece, as JSON.
    fn whole(&mut self, text: &str, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken>;

    /// The stream has ended, as a stream of HTTP ends. What it gives in place of nothing makes that the end of the answer.
    fn end_of_stream(&mut self, _out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        Ok(())
    }

    /// What is known of the tokens used.
    fn usage(&self) -> TokenUsage;
}

/// An answer that is being read.
struct Answer<D> {
    accepted: Accepted,
    parser: SseParser,
    decoder: D,
    ready: VecDeque<ModelEvent>,
    /// How it broke off, to be told once what is ready has been given out.
    failure: Option<Failure>,
    ended: bool,
}

/// Reads an answer until something of it can be seen, and gives it with all that follows.
pub(crate) async fn open<D: Decoder>(
    accepted: Accepted,
    decoder: D,
    limits: SseLimits,
) -> Result<ModelStream, Problem> {
    let parser = SseParser::new(limits);
    let mut answer = Answer { accepted, parser, decoder, ready: VecDeque::new(), failure: None, ended: false };
    match answer.accepted.content_type.as_str() {
        "text/event-stream" | "" => {}
        "application/json" => answer.read_whole().await?,
        _ => return Err(answer.wrong_type().await),
    }
    while !answer.can_be_seen() {
        if let Err(problem) = answer.read_more().await {
            if !answer.can_be_seen() {
                return Err(problem);
            }
            // The piece that holds the end holds something to be seen before it.
            answer.fail(problem);
        }
    }
    let rest = stream::unfold(answer, async |mut answer| {
        let event = answer.next().await?;
        Some((event, answer))
    });
    Ok(ModelStream::new(rest))
}

impl<D: Decoder> Answer<D> {
    async fn next(&mut self) -> Option<Result<ModelEvent, Failure>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if let Some(failure) = self.failure.take() {
                return Some(Err(failure));
            }
            if self.ended {
                return None;
            }
            if let Err(problem) = self.read_more().await {
                self.fail(problem);
            }
        }
    }

    /// Whether something is ready that a person or a tool would notice.
    fn can_be_seen(&self) -> bool {
        self.ready.iter().any(|event| !matches!(event, ModelEvent::Started { .. }))
    }

    /// Ends an answer of which something is seen: the same call is not to be made again by a program then, that is for
    /// whoever saw it.
    fn fail(&mut self, problem: Problem) {
        let mut failure = problem.failure;
        failure.retryable = false;
        failure.retry_after_ms = None;
        self.failure = Some(failure);
        self.ended = true;
    }

    /// Reads one more piece.
    async fn read_more(&mut self) -> Result<(), Problem> {
        let piece = match self.accepted.piece().await {
            Some(Ok(piece)) => piece,
            Some(Err(problem)) => return Err(self.broken_off(problem)),
            None => {
                self.decoder.end_of_stream(&mut self.ready).map_err(|broken| self.explain(broken))?;
                if self.is_finished() {
                    return Ok(());
                }
                let mut failure = self
                    .accepted
                    .about
                    .failure(code::UNAVAILABLE, format!("{} ended its answer in the middle", self.accepted.about.name));
                failure.retryable = true;
                let failure = failure.hint("try again");
                return Err(self.broken_off(Problem { failure, retry: Retry::Soon, unauthorised: false }));
            }
        };
        if let Err(error) = self.parser.push(&piece) {
            return Err(self.garbled(&error.to_string()));
        }
        while let Some(event) = self.parser.next_event() {
            self.decoder.event(&event, &mut self.ready).map_err(|broken| self.explain(broken))?;
            if self.is_finished() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the end of the answer has been read; nothing more is then.
    fn is_finished(&mut self) -> bool {
        self.ended |= matches!(self.ready.back(), Some(ModelEvent::Finished { .. }));
        self.ended
    }

    async fn read_whole(&mut self) -> Result<(), Problem> {
        let text = self.accepted.text().await.map_err(|problem| self.broken_off(problem))?;
        self.decoder.whole(&text, &mut self.ready).map_err(|broken| self.explain(broken))?;
        self.ended = true;
        Ok(())
    }

    async fn wrong_type(&mut self) -> Problem {
        let beginning = self.accepted.beginning(500).await;
        let credential = &self.accepted.credential;
        let kind = credential.scrub(&self.accepted.content_type, 60);
        let beginning = credential.scrub(beginning.trim(), 200);
        self.garbled(&format!("`{kind}` came in place of an event stream: {beginning}"))
    }

    fn garbled(&self, what: &str) -> Problem {
        self.broken_off(Problem::last(self.accepted.about.garbled(what)))
    }

    fn explain(&self, broken: Broken) -> Problem {
        match broken {
            Broken::Garbled(what) => self.garbled(&self.accepted.credential.scrub(&what, 300)),
            Broken::Said(status, said) => {
                let accepted = &self.accepted;
                self.broken_off(accepted.about.refusal(status, &said, &accepted.credential, (None, None)))
            }
        }
    }

    /// Adds what is known of an answer that broke off.
    fn broken_off(&self, mut problem: Problem) -> Problem {
        let failure = &mut problem.failure;
        set_extra(failure, "usage", json!(self.decoder.usage()));
        let has_id = failure.extra.as_ref().is_some_and(|extra| extra.get("requestId").is_some());
        if let (Some(id), false) = (&self.accepted.request_id, has_id) {
            set_extra(failure, "requestId", json!(id));
        }
        problem
    }
}
