//! From the exports of the contract to the traits of this crate. One adapter stands for all of them; which of its sides
//! a component has is said by [`export!`](crate::export).

use std::marker::PhantomData;

use serde_json::Value;

use crate::bindings::raw::types::Failure as RawFailure;
use crate::bindings::{self, raw};
use crate::channel::{Channel, ChannelActions, Frame, Poll, PollStep, Reaction, Socket, Webhook};
use crate::context::Context;
use crate::convert;
use crate::failure::Failure;
use crate::hook::Hook;
use crate::host::CallHandle;
use crate::methods::Methods;
use crate::skill::Skill;
use crate::{blob, http, web};

mod routes;

/// The one instance of a plugin in a component; [`export!`](crate::export) implements it.
pub trait Instance: Sized + 'static {
    /// Runs `work` with the instance, made at the first call.
    fn with<R>(work: impl FnOnce(&Self) -> R) -> R;
}

/// Stands between the contract and plugin `P`.
pub struct Adapter<P>(PhantomData<P>);

/// Enters the plugin: everything that comes in passes here.
fn enter<P: Instance, R, Out>(work: impl FnOnce(&P) -> Result<R, Failure>) -> Result<Out, RawFailure>
where
    Out: From<R>,
{
    crate::logging::install();
    P::with(work).map(Out::from).map_err(RawFailure::from)
}

fn context(raw: &raw::call::Context) -> Context<'_> {
    Context { handle: CallHandle { raw } }
}

fn parse(text: &str, what: &str) -> Result<Value, Failure> {
    crate::json::read(text, what)
}

mod method {
    use super::*;
    use bindings::method::exports::leanclaw::plugin::method::{Guest, Spec};

    impl<P: Methods + Instance> Guest for Adapter<P> {
        fn methods() -> Result<Vec<Spec>, RawFailure> {
            crate::logging::install();
            let specs = P::methods().specs().into_iter();
            Ok(specs
                .map(|spec| Spec {
                    name: spec.name,
                    description: spec.description,
                    scope: spec.scope.as_str().to_owned(),
                    params_schema: spec.params_schema.to_string(),
                    result_schema: spec.result_schema.to_string(),
                    extra: None,
                })
                .collect())
        }

        fn invoke(call: raw::call::Context, name: String, params: String) -> Result<String, RawFailure> {
            enter::<P, _, _>(|plugin| P::methods().invoke(plugin, &context(&call), &name, &params))
        }
    }
}

mod skill {
    use super::*;
    use bindings::skill::exports::leanclaw::plugin::skill::{Guest, Output, Tool};

    impl<P: Skill + Instance> Guest for Adapter<P> {
        fn tools() -> Result<Vec<Tool>, RawFailure> {
            crate::logging::install();
            let specs = P::tools().specs().into_iter();
            Ok(specs
                .map(|spec| Tool {
                    name: spec.name,
                    description: spec.description,
                    input_schema: spec.input_schema.to_string(),
                    output_schema: spec.output_schema.map(|schema| schema.to_string()),
                    effects: spec.effects,
                    idempotent: spec.idempotent,
                    extra: None,
                })
                .collect())
        }

        fn invoke(call: raw::call::Context, tool: String, input: String) -> Result<Output, RawFailure> {
            enter::<P, _, _>(|plugin| {
                let output = P::tools().invoke(plugin, &context(&call), &tool, &input)?;
                Ok(Output {
                    structured: output.structured.map(|value| value.to_string()),
                    text: output.text,
                    files: output.files.into_iter().map(convert::blob_to_raw).collect::<Result<_, _>>()?,
                    is_error: output.is_error,
                })
            })
        }
    }
}

mod channel {
    use super::*;
    use bindings::channel::exports::leanclaw::plugin::channel::{Descriptor, Guest};

    impl<P: Channel + Instance> Guest for Adapter<P> {
        fn describe() -> Descriptor {
            crate::logging::install();
            let descriptor = P::with(Channel::describe);
            Descriptor {
                id: descriptor.id,
                title: descriptor.title,
                max_text_bytes: descriptor.max_text_bytes,
                abilities: descriptor.abilities,
                extra: descriptor.extra.map(|extra| extra.to_string()),
            }
        }

        fn deliver(message: raw::messages::Outbound) -> Result<raw::messages::Receipt, RawFailure> {
            enter::<P, _, _>(|plugin| plugin.deliver(convert::outbound_from_raw(message)?).map(convert::receipt_to_raw))
        }
    }
}

mod actions {
    use super::*;
    use bindings::actions::exports::leanclaw::plugin::channel_actions::Guest;

    impl<P: ChannelActions + Instance> Guest for Adapter<P> {
        fn perform(action: String, place: raw::messages::Place, arguments: String) -> Result<String, RawFailure> {
            enter::<P, _, _>(|plugin| {
                let place = convert::place_from_raw(place)?;
                plugin.perform(&action, place, parse(&arguments, "input")?).map(|result| result.to_string())
            })
        }
    }
}

mod webhook {
    use super::*;
    use bindings::webhook::exports::leanclaw::plugin::webhook::{Guest, Reply, Request};

    impl<P: Webhook + Instance> Guest for Adapter<P> {
        fn handle(request: Request) -> Result<Reply, RawFailure> {
            enter::<P, _, _>(|plugin| {
                let reply = plugin.handle(web::Request {
                    method: request.method,
                    path: request.path,
                    query: request.query,
                    headers: convert::headers_from_raw(request.headers),
                    body: request.body,
                    remote: request.remote,
                })?;
                Ok(Reply { status: reply.status, headers: convert::headers_to_raw(&reply.headers), body: reply.body })
            })
        }
    }
}

mod poll {
    use super::*;
    use bindings::poll::exports::leanclaw::plugin::poll::{Guest, Request, Response, Step};

    /// The largest request body of a poll, in bytes.
    const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
    /// How long a poll may take when the plugin does not say, in milliseconds.
    const DEFAULT_TIMEOUT_MS: u64 = 60_000;

    impl<P: Poll + Instance> Guest for Adapter<P> {
        fn next() -> Result<Step, RawFailure> {
            enter::<P, _, _>(|plugin| {
                let PollStep { request, wait_ms } = plugin.next()?;
                Ok(Step { request: request.map(request_to_raw).transpose()?, wait_ms })
            })
        }

        fn received(response: Result<Response, RawFailure>) -> Result<(), RawFailure> {
            let answer = response.map_err(Failure::from).map(|response| {
                let headers = convert::headers_from_raw(response.headers);
                let media_type = headers.get("content-type").unwrap_or("application/octet-stream").to_owned();
                http::Response { status: response.status, headers, body: blob::Blob::new(media_type, response.body) }
            });
            enter::<P, _, _>(|plugin| plugin.received(answer))
        }
    }

    fn request_to_raw(request: http::Request) -> Result<Request, Failure> {
        Ok(Request {
            method: request.method,
            url: request.url,
            headers: convert::headers_to_raw(&request.headers),
            body: request.body.map(|body| body.bytes(MAX_BODY_BYTES)).transpose()?.unwrap_or_default(),
            timeout_ms: request.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS),
        })
    }
}

mod socket {
    use super::*;
    use bindings::socket::exports::leanclaw::plugin::socket as contract;
    use contract::Guest;

    impl<P: Socket + Instance> Guest for Adapter<P> {
        fn target() -> Result<contract::Endpoint, RawFailure> {
            enter::<P, _, _>(|plugin| {
                let endpoint = plugin.target()?;
                Ok(contract::Endpoint {
                    url: endpoint.url,
                    headers: convert::headers_to_raw(&endpoint.headers),
                    protocols: endpoint.protocols,
                })
            })
        }

        fn opened() -> Result<contract::Reaction, RawFailure> {
            enter::<P, _, _>(Socket::opened)
        }

        fn received(frame: contract::Frame) -> Result<contract::Reaction, RawFailure> {
            enter::<P, _, _>(|plugin| plugin.received(Frame { kind: frame.kind, data: frame.data }))
        }

        fn woken() -> Result<contract::Reaction, RawFailure> {
            enter::<P, _, _>(Socket::woken)
        }

        fn closed(code: u16, reason: String) -> Result<(), RawFailure> {
            enter::<P, _, _>(|plugin| plugin.closed(code, &reason))
        }
    }

    impl From<Reaction> for contract::Reaction {
        fn from(reaction: Reaction) -> Self {
            let send = reaction.send.into_iter().map(|frame| contract::Frame { kind: frame.kind, data: frame.data });
            Self { send: send.collect(), wake_after_ms: reaction.wake_after_ms, close: reaction.close }
        }
    }
}

mod hook {
    use super::*;
    use bindings::hook::exports::leanclaw::plugin::hook::{Decision, Guest};

    impl<P: Hook + Instance> Guest for Adapter<P> {
        fn events() -> Vec<String> {
            P::EVENTS.iter().map(|event| (*event).to_owned()).collect()
        }

        fn handle(call: raw::call::Context, event: String, payload: String) -> Result<Decision, RawFailure> {
            enter::<P, _, _>(|plugin| {
                let decision = plugin.handle(&context(&call), &event, parse(&payload, "payload")?)?;
                Ok(Decision {
                    verdict: decision.verdict,
                    reason: decision.reason,
                    payload: decision.payload.map(|payload| payload.to_string()),
                })
            })
        }
    }
}
