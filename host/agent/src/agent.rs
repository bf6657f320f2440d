//! Who is asked what: the methods of the protocol, from `initialize` on.

use std::collections::HashMap;

use agent_client_protocol_schema::ProtocolVersion;
use agent_client_protocol_schema::v1::{
    AgentCapabilities, Error, ErrorCode, Implementation, InitializeRequest, InitializeResponse, NewSessionRequest,
    NewSessionResponse, PromptCapabilities, PromptRequest,
};
use leanclaw_types::agent::SETUP;
use serde::Serialize;
use serde_json::Value;

use crate::frame::{Params, invalid_params};
use crate::link::Link;
use crate::peer::{Gone, Peer, Request};
use crate::prompt;
use crate::session::Session;
use crate::turn::{self, TurnError};

/// The most sessions of one process.
const MAX_SESSIONS: usize = 64;

/// Serves the host on `link` until there is nothing more to read.
pub fn run(link: &mut dyn Link) {
    let mut agent = Agent { peer: Peer::new(link), is_initialized: false, sessions: HashMap::new() };
    while let Ok(request) = agent.peer.next_request() {
        if agent.handle(&request) == Err(Gone) {
            return;
        }
    }
}

struct Agent<'l> {
    peer: Peer<'l>,
    is_initialized: bool,
    sessions: HashMap<String, Session>,
}

impl Agent<'_> {
    fn handle(&mut self, request: &Request) -> Result<(), Gone> {
        let method = request.method.as_str();
        let result = match method {
            "initialize" => self.initialize(&request.params),
            "session/new" | "session/prompt" if !self.is_initialized => {
                Err(Error::new(ErrorCode::InvalidRequest.into(), format!("Call `initialize` before `{method}`.")))
            }
            "session/new" => self.new_session(&request.params),
            "session/prompt" => self.prompt(&request.params)?,
            _ => Err(Error::new(ErrorCode::MethodNotFound.into(), format!("There is no method `{method}`."))),
        };
        self.peer.respond(&request.id, &result);
        Ok(())
    }

    fn initialize(&mut self, params: &Params) -> Result<Value, Error> {
        // Whatever version the host asks for, this is the one there is; the host decides whether it can go on.
        let _: InitializeRequest = params.read()?;
        self.is_initialized = true;
        let prompts = PromptCapabilities::new().image(true).embedded_context(true);
        to_value(
            InitializeResponse::new(ProtocolVersion::V1)
                .agent_capabilities(AgentCapabilities::new().prompt_capabilities(prompts))
                .agent_info(
                    Implementation::new("leanclaw-agent", env!("CARGO_PKG_VERSION")).title("LeanClaw".to_owned()),
                ),
        )
    }

    fn new_session(&mut self, params: &Params) -> Result<Value, Error> {
        let NewSessionRequest { cwd, mcp_servers, meta, .. } = params.read()?;
        if !mcp_servers.is_empty() {
            return Err(invalid_params("params.mcpServers must be empty: this agent takes tools from the host only"));
        }
        let setup = meta.and_then(|mut meta| meta.remove(SETUP)).ok_or_else(|| {
            invalid_params(format!("params._meta.{SETUP} is missing: this agent has no model of its own to talk to"))
        })?;
        let setup =
            serde_json::from_value(setup).map_err(|error| invalid_params(format!("params._meta.{SETUP}: {error}")))?;
        if self.sessions.len() >= MAX_SESSIONS {
            return Err(Error::new(
                ErrorCode::InvalidRequest.into(),
                format!("There are {MAX_SESSIONS} sessions already."),
            ));
        }
        let id = format!("session-{}", self.sessions.len().saturating_add(1));
        let session = Session::open(id.clone(), &cwd, setup).map_err(invalid_params)?;
        self.sessions.insert(id.clone(), session);
        to_value(NewSessionResponse::new(id))
    }

    fn prompt(&mut self, params: &Params) -> Result<Result<Value, Error>, Gone> {
        let PromptRequest { session_id, prompt, .. } = match params.read() {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let Some(session) = self.sessions.get_mut(&*session_id.0) else {
            return Ok(Err(invalid_params(format!("params.sessionId: there is no session `{session_id}`"))));
        };
        let blocks = match prompt::blocks(prompt) {
            Ok(blocks) => blocks,
            Err(error) => return Ok(Err(error)),
        };
        match turn::run(&mut self.peer, session, blocks) {
            Ok(response) => Ok(to_value(response)),
            Err(TurnError::Gone) => Err(Gone),
            Err(TurnError::Failed(failure)) => {
                let data = to_value(&failure).ok();
                Ok(Err(Error::new(ErrorCode::InternalError.into(), failure.message).data(data)))
            }
        }
    }
}

fn to_value(value: impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|error| Error::new(ErrorCode::InternalError.into(), error.to_string()))
}
