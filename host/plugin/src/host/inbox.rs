//! `inbox`: messages that people wrote, stored before the guest is told so.
//!
//! Which plugin, account and channel a message came through, and when, is stamped here; a guest's own claims about
//! those are not even representable. Other plugins' hooks see a message before it is stored.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use leanclaw_types::message::{Blob, Inbound, Part, Person, Place, Received};
use leanclaw_types::{Failure, failure::code};
use serde_json::Value;

use crate::bindings::imports::inbox::Host;
use crate::bindings::imports::{messages, types};
use crate::logs::Level;
use crate::runtime::Plugins;
use crate::state::{InstanceState, Shared, call_id, to_guest};

fn json(what: &str, text: Option<String>) -> Result<Option<Value>, Failure> {
    text.map(|text| {
        serde_json::from_str(&text).map_err(|error| {
            Failure::invalid(format!("`extra` of the {what} is not JSON: {error}."))
                .hint("give `extra` as JSON text, or leave it out")
        })
    })
    .transpose()
}

impl InstanceState {
    fn part(&mut self, part: messages::Part) -> wasmtime::Result<Result<Part, Failure>> {
        let blob = match part.blob {
            None => None,
            Some(handle) => {
                let blob = self.take_blob(handle)?;
                Some(Blob { media_type: blob.media_type, data: blob.data })
            }
        };
        Ok(json("part", part.extra).map(|extra| Part { kind: part.kind, text: part.text, blob, extra }))
    }

    fn inbound(&mut self, message: messages::Inbound) -> wasmtime::Result<Result<Inbound, Failure>> {
        let mut parts = Vec::with_capacity(message.parts.len());
        for part in message.parts {
            match self.part(part)? {
                Ok(part) => parts.push(part),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        Ok(assemble(message.id, message.sender, message.place, parts, message.reply_to, message.sent_at, message.extra))
    }
}

fn assemble(
    id: String,
    sender: messages::Person,
    place: messages::Place,
    parts: Vec<Part>,
    reply_to: Option<String>,
    sent_at_ms: u64,
    extra: Option<String>,
) -> Result<Inbound, Failure> {
    if id.is_empty() || id.len() > 512 {
        return Err(Failure::invalid("A message needs an `id` of 1 to 512 bytes: it is the key for deduplication.")
            .hint("give the platform's own id of the message, or a hash of what identifies it"));
    }
    Ok(Inbound {
        id,
        sender: Person {
            id: sender.id,
            display_name: sender.display_name,
            bot: sender.bot,
            extra: json("sender", sender.extra)?,
        },
        place: Place {
            id: place.id,
            kind: place.kind,
            thread: place.thread,
            title: place.title,
            extra: json("place", place.extra)?,
        },
        parts,
        reply_to,
        sent_at_ms,
        extra: json("message", extra)?,
    })
}

/// Asks the hooks and stores what they leave of a message.
async fn store(shared: &Shared, call: u64, received: Received) -> Result<String, Failure> {
    let Some(inner) = shared.program.upgrade() else {
        return Err(Failure::unavailable("The program ends.").retry_after(1000));
    };
    // Boxed and of a named type: asking runs guest code, whose host functions lead here again.
    let asked: BoxFuture<'_, _> = Box::pin(async move { Plugins { inner }.message_received(received).await });
    match asked.await {
        Ok(received) => shared.services.inbox.submit(received).await,
        Err(veto) if veto.code == code::DENIED => {
            shared.logs.write(Level::Warn, "host", &call_id(call), &format!("message dropped: {}", veto.message));
            Ok("denied".into())
        }
        Err(failure) => Err(failure),
    }
}

impl messages::Host for InstanceState {}

impl Host for InstanceState {
    async fn submit(&mut self, message: messages::Inbound) -> wasmtime::Result<Result<String, types::Failure>> {
        self.enter()?;
        if self.frame.context.is_about_message {
            let failure = Failure::denied("A plugin that is asked about a message cannot hand in another meanwhile.")
                .hint("answer `replace` to change the message that came in");
            return Ok(Err(to_guest(&failure)));
        }
        let message = match self.inbound(message)? {
            Ok(message) => message,
            Err(failure) => return Ok(Err(to_guest(&failure))),
        };
        let key = &self.shared.key;
        let received = Received {
            plugin: key.plugin.clone(),
            account: key.account.clone(),
            channel: self.shared.channels.first().cloned().unwrap_or_else(|| key.plugin.to_string()),
            received_at_ms: self.shared.services.clock.now_ms(),
            message,
        };
        let (shared, call) = (Arc::clone(&self.shared), self.frame.call);
        Ok(store(&shared, call, received).await.map_err(|failure| to_guest(&failure)))
    }
}
