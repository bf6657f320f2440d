//! `leanclaw chat`: a message to an agent and its answer as it is written; without a message, a conversation.
//!
//! [`answer`] makes of events what is to be shown, [`talk`] holds the connection and what is done when it is lost, [`stored`]
//! reads an answer that was given meanwhile, [`screen`] shows. None of them decides about a run: that is the gateway's.

mod answer;
mod screen;
mod stored;
mod talk;

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::thread;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use self::answer::Outcome;
use self::screen::Screen;
use self::talk::{Reply, Talk};
use super::block_on;
use super::gateway::Which;
use crate::config::Flags;
use crate::output;
use crate::report::{self, Advice, Interrupted, Report};

/// Largest message that is read from standard input; a gateway takes no larger frame.
const MAX_MESSAGE_BYTES: u64 = 25 * 1024 * 1024;
/// How much a model may think, as the protocol names it.
const THINKING: [&str; 7] = ["off", "minimal", "low", "medium", "high", "xhigh", "adaptive"];
/// Where a line is asked for.
const PROMPT: &str = "> ";

#[derive(Debug, Args)]
#[command(
    after_help = "Without TEXT the message is read from standard input; at a terminal each line is one, and Ctrl-D ends.\n\
                        Ctrl-C ends the answer that is being written. Exit status: 0 answered, 1 failed or ended by somebody, \
                        130 Ctrl-C."
)]
pub(crate) struct Arguments {
    /// The message
    #[arg(value_name = "TEXT")]
    message: Option<String>,
    /// The session that it belongs to
    #[arg(long, value_name = "KEY", default_value = "main")]
    session: String,
    /// How much the model may think [default: as the session says]
    #[arg(long, value_name = "LEVEL", value_parser = THINKING)]
    thinking: Option<String>,
    #[command(flatten)]
    gateway: Which,
    /// Print one JSON object per answer, once it has ended: runId, sessionKey, status, text, usage
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    let Arguments { message, session, thinking, gateway, json } = arguments;
    let is_conversation = message.is_none() && io::stdin().is_terminal();
    let message = match message {
        Some(message) => Some(message),
        None if is_conversation => None,
        None => Some(read_message()?),
    };
    let gateway = gateway.find(flags)?;
    block_on(async {
        let interrupts = signal(SignalKind::interrupt()).context("Ctrl-C cannot be listened to")?;
        let talk = Talk::new(&gateway, session, thinking, Screen::new(json));
        let mut chat = Chat { talk, interrupts, is_json: json };
        match message {
            Some(message) => chat.say(&message).await?,
            None => chat.converse().await?,
        }
        chat.talk.close().await;
        Ok(())
    })
}

/// The message on standard input, without the line break at its end.
fn read_message() -> Result<String> {
    let mut text = String::new();
    let mut input = io::stdin().lock().take(MAX_MESSAGE_BYTES + 1);
    input.read_to_string(&mut text).context("the message cannot be read from standard input")?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_MESSAGE_BYTES) {
        return Err(Advice::new(format!("the message is larger than {MAX_MESSAGE_BYTES} bytes")).into());
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    if text.trim().is_empty() {
        let nothing = Advice::new("there is no message: standard input is empty");
        return Err(nothing.hint("leanclaw chat \"What can you do?\"").into());
    }
    Ok(text)
}

/// A person or a script that talks.
struct Chat<'a> {
    talk: Talk<'a>,
    interrupts: Signal,
    is_json: bool,
}

impl Chat<'_> {
    /// Says one thing and shows the answer.
    async fn say(&mut self, message: &str) -> Result<()> {
        let reply = tokio::select! {
            biased;
            _ = self.interrupts.recv() => None,
            reply = self.talk.ask(message) => Some(reply?),
        };
        let Some(reply) = reply else {
            // Whoever presses it again waits for nothing.
            tokio::select! {
                biased;
                _ = self.interrupts.recv() => {}
                () = self.talk.interrupt() => {}
            }
            return Err(Interrupted.into());
        };
        if self.is_json {
            output::json(&object(&reply))?;
        }
        judged(&reply)
    }

    /// Says each line and shows the answers, until the lines end. What fails ends an answer and not the conversation.
    async fn converse(&mut self) -> Result<()> {
        let mut lines = lines();
        loop {
            output::prompt(PROMPT)?;
            let line = tokio::select! {
                biased;
                _ = self.interrupts.recv() => return Err(Interrupted.into()),
                line = lines.recv() => line,
                // Never done: it only keeps the connection.
                () = self.talk.idle() => None,
            };
            let Some(line) = line else {
                output::note("");
                return Ok(());
            };
            if line.trim().is_empty() {
                continue;
            }
            match self.say(&line).await {
                Err(error) if error.is::<Interrupted>() || report::is_broken_pipe(&error) => return Err(error),
                Err(error) => output::error(&Report::of(&error)),
                Ok(()) => {}
            }
        }
    }
}

/// The lines of standard input. The thread that reads them ends with the program: nothing can end a read of a terminal.
fn lines() -> UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        while io::stdin().lock().read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
            bytes.clear();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A reply for a program.
fn object(reply: &Reply) -> Value {
    let status = match &reply.ending.outcome {
        Outcome::Done => "ok",
        Outcome::Aborted(_) => "aborted",
        Outcome::Failed { .. } => "error",
    };
    let text = &reply.ending.text;
    let mut object = json!({"runId": reply.run_id, "sessionKey": reply.session_key, "status": status, "text": text});
    if let (Some(usage), Some(fields)) = (&reply.ending.usage, object.as_object_mut()) {
        fields.insert("usage".to_owned(), usage.clone());
    }
    object
}

/// Whether a reply is one that was asked for.
fn judged(reply: &Reply) -> Result<()> {
    let session = &reply.session_key;
    match &reply.ending.outcome {
        Outcome::Done => Ok(()),
        Outcome::Aborted(by) => {
            Err(Advice::new(format!("the answer was ended before it was whole: {}", ended_by(by))).into())
        }
        Outcome::Failed { message, kind } => {
            // Gateways say first what is wrong, and on lines of their own what helps.
            let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
            let words = lines.next().unwrap_or("it gave no reason");
            let advice = Advice::new(format!("the agent could not answer: {words}"));
            let told = lines.map(|line| line.strip_prefix("hint: ").unwrap_or(line).to_owned());
            let mut hints: Vec<String> = told.chain(about(kind, session)).collect();
            if hints.is_empty() {
                hints.push("`leanclaw logs` says more".to_owned());
            }
            Err(hints.into_iter().fold(advice, Advice::hint).into())
        }
    }
}

/// What ended it, from the protocol's word for that.
fn ended_by(word: &str) -> String {
    match word {
        "rpc" => "somebody ended it (chat.abort)".to_owned(),
        "stop" => "a message that says stop ended it".to_owned(),
        "timeout" => "its time was over".to_owned(),
        "" => "no reason was given".to_owned(),
        other => other.to_owned(),
    }
}

/// What helps against a failure of a kind that the protocol names.
fn about(kind: &str, session: &str) -> Option<String> {
    match kind {
        "rate_limit" => {
            Some("the model's provider takes no more at the moment: wait a little, then say it again".to_owned())
        }
        "context_length" => {
            Some(format!("the conversation is too long: leanclaw sessions reset {session} begins anew"))
        }
        "timeout" => Some("the model did not answer in time; say it again".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::answer::Ending;
    use super::*;

    fn reply(outcome: Outcome) -> Reply {
        let ending = Ending { outcome, text: "so far".into(), usage: None };
        Reply { run_id: "r".into(), session_key: "agent:main:main".into(), ending }
    }

    #[test]
    fn a_failure_is_told_with_what_helps() {
        let message = "The provider refused.\n\nhint: set LEANCLAW_ANTHROPIC_API_KEY\nthen start again".to_owned();
        let failed = |kind: &str| judged(&reply(Outcome::Failed { message: message.clone(), kind: kind.into() }));
        let told = Report::of(&failed("context_length").unwrap_err());
        assert_eq!(told.message, "the agent could not answer: The provider refused.");
        assert_eq!(
            told.hints,
            [
                "set LEANCLAW_ANTHROPIC_API_KEY",
                "then start again",
                "the conversation is too long: leanclaw sessions reset agent:main:main begins anew"
            ]
        );
        let told =
            Report::of(&judged(&reply(Outcome::Failed { message: String::new(), kind: String::new() })).unwrap_err());
        assert_eq!(told.message, "the agent could not answer: it gave no reason");
        assert_eq!(told.hints, ["`leanclaw logs` says more"]);
        let told = judged(&reply(Outcome::Aborted("timeout".into()))).unwrap_err().to_string();
        assert_eq!(told, "the answer was ended before it was whole: its time was over");
        assert!(judged(&reply(Outcome::Done)).is_ok());
    }

    #[test]
    fn an_object_leaves_out_what_is_not_known() {
        let expected = json!({"runId": "r", "sessionKey": "agent:main:main", "status": "aborted", "text": "so far"});
        assert_eq!(object(&reply(Outcome::Aborted("rpc".into()))), expected);
        let mut done = reply(Outcome::Done);
        done.ending.usage = Some(json!({"input": 1}));
        assert_eq!((&object(&done)["status"], &object(&done)["usage"]), (&json!("ok"), &json!({"input": 1})));
    }
}
