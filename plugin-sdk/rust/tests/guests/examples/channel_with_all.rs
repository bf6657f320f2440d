//! A channel with everything a channel may be.
#![forbid(unsafe_code)]

use leanclaw_plugin_sdk::serde_json::Value;
use leanclaw_plugin_sdk::{
    Channel, ChannelActions, Descriptor, Endpoint, Failure, Frame, Outbound, Place, Poll, PollStep, Reaction, Receipt,
    Socket, Webhook, http, web,
};

#[derive(Default)]
struct Guest;

leanclaw_plugin_sdk::export!(Guest: channel, actions, webhook, poll, socket);

impl Channel for Guest {
    fn describe(&self) -> Descriptor {
        Descriptor { id: "guest".into(), ..Descriptor::default() }
    }

    fn deliver(&self, message: Outbound) -> Result<Receipt, Failure> {
        Ok(Receipt { message_id: Some(message.idempotency_key), extra: None })
    }
}

impl ChannelActions for Guest {
    fn perform(&self, _action: &str, _place: Place, arguments: Value) -> Result<Value, Failure> {
        Ok(arguments)
    }
}

impl Webhook for Guest {
    fn handle(&self, request: web::Request) -> Result<web::Reply, Failure> {
        Ok(web::Reply::status(200).body(request.body))
    }
}

impl Poll for Guest {
    fn next(&self) -> Result<PollStep, Failure> {
        Ok(PollStep::ask(http::Request::get("https://example.com/")))
    }

    fn received(&self, answer: Result<http::Response, Failure>) -> Result<(), Failure> {
        answer.map(|_| ())
    }
}

impl Socket for Guest {
    fn target(&self) -> Result<Endpoint, Failure> {
        Ok(Endpoint::default())
    }

    fn received(&self, frame: Frame) -> Result<Reaction, Failure> {
        Ok(Reaction::send(frame))
    }
}
