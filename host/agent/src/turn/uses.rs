//! The tools that an answer asks for. Each use gets one result, in the order of the uses, whatever becomes of it.
//!
//! First what needs permission is asked for, one after the other; then the host's tools are requested all together; then those
//! here run in order, as one may build on another; then the host's results are waited for.

use agent_client_protocol_schema::v1::{
    Error, PermissionOption, PermissionOptionKind, RequestPermissionOutcome, RequestPermissionRequest,
    RequestPermissionResponse,
};
use leanclaw_types::agent::{HostToolCall, HostToolResult, TOOL_CALL};
use leanclaw_types::model::Block;
use serde_json::Value;

use super::{Turn, failure_of};
use crate::cap::capped;
use crate::peer::{Gone, Ticket};
use crate::tools::{self, Context, Outcome, Refusal, Tool};
use crate::update::Updates;

const ALLOW_ONCE: &str = "allow-once";
const ALLOW_ALWAYS: &str = "allow-always";
const REJECT_ONCE: &str = "reject-once";

const CANCELLED: &str = "Cancelled before it was run.";

/// A use of a tool.
pub(super) struct Use {
    id: String,
    name: String,
    input: Value,
    /// What is wrong with the input, where it cannot be read.
    problem: Option<String>,
}

/// The uses in a message.
pub(super) fn of(blocks: &[Block]) -> Vec<Use> {
    let of_block = |block: &Block| match block {
        Block::ToolUse { id, name, input } => {
            Some(Use { id: id.clone(), name: name.clone(), input: input.clone(), problem: None })
        }
        Block::InvalidToolUse { id, name, text, problem } => Some(Use {
            id: id.clone(),
            name: name.clone(),
            input: Value::String(text.clone()),
            problem: Some(problem.clone()),
        }),
        _ => None,
    };
    blocks.iter().filter_map(of_block).collect()
}

/// Results for uses none of which is run.
pub(super) fn refused(uses: Vec<Use>, why: &str) -> Vec<Block> {
    uses.into_iter().map(|one| result(one.id, Outcome::error(why))).collect()
}

fn result(tool_use_id: String, outcome: Outcome) -> Block {
    Block::ToolResult { tool_use_id, content: outcome.content, is_error: outcome.is_error }
}

/// What is to be done about a use.
enum Plan {
    Here(&'static dyn Tool),
    Host,
    Asked(Ticket),
    Done(Outcome),
}

impl Turn<'_, '_> {
    /// Runs them all.
    pub(super) fn run_uses(&mut self, uses: Vec<Use>) -> Result<Vec<Block>, Gone> {
        let mut planned: Vec<(Use, Plan)> = Vec::new();
        for one in uses {
            let plan = self.plan(&one)?;
            planned.push((one, plan));
        }
        for (one, plan) in &mut planned {
            if matches!(plan, Plan::Host) {
                *plan = self.ask_host(one);
            }
        }
        for (one, plan) in &mut planned {
            if let Plan::Here(tool) = plan {
                *plan = Plan::Done(self.run_here(one, *tool));
            }
        }
        let mut results = Vec::new();
        for (one, plan) in planned {
            let outcome = match plan {
                Plan::Asked(ticket) => self.host_result(&one, ticket)?,
                Plan::Done(outcome) => outcome,
                Plan::Here(_) | Plan::Host => Outcome::error("It was not run."),
            };
            results.push(result(one.id, outcome));
        }
        Ok(results)
    }

    /// Announces a use, and asks for permission where the host wants that.
    fn plan(&mut self, one: &Use) -> Result<Plan, Gone> {
        let here = tools::find(&one.name);
        let updates = Updates { session: &self.session.id, workspace: &self.session.workspace };
        let call = updates.call(&one.id, &one.name, &one.input, here);
        updates.announce(self.peer, call.clone());
        let is_hosts = self.session.setup.tools.iter().any(|tool| tool.name == one.name);
        let problem = if self.peer.is_cancelled() {
            CANCELLED.to_owned()
        } else if here.is_none() && !is_hosts {
            let names: Vec<&str> = self.session.tools.iter().map(|tool| tool.name.as_str()).collect();
            format!("There is no tool `{}`. There are: {}.", one.name, names.join(", "))
        } else if let Some(problem) = &one.problem {
            format!(
                "The input of `{}` cannot be read, and nothing was run: {problem}. Ask again with a JSON object.",
                one.name
            )
        } else if !one.input.is_object() {
            format!("The input of `{}` must be a JSON object.", one.name)
        } else if self.session.setup.ask_before.contains(&one.name) {
            match self.permission(call.into())? {
                Ok(()) => return Ok(here.map_or(Plan::Host, Plan::Here)),
                Err(problem) => problem,
            }
        } else {
            return Ok(here.map_or(Plan::Host, Plan::Here));
        };
        Ok(Plan::Done(self.done(one, Outcome::error(problem))))
    }

    /// Shows how a use ended.
    fn done(&mut self, one: &Use, outcome: Outcome) -> Outcome {
        let updates = Updates { session: &self.session.id, workspace: &self.session.workspace };
        updates.done(self.peer, &one.id, &outcome);
        outcome
    }

    fn begun(&mut self, one: &Use) {
        let updates = Updates { session: &self.session.id, workspace: &self.session.workspace };
        updates.begun(self.peer, &one.id);
    }

    /// Asks whether a use may go on; otherwise the words for the model. Whatever is not clearly a yes is a no.
    fn permission(
        &mut self,
        call: agent_client_protocol_schema::v1::ToolCallUpdate,
    ) -> Result<Result<(), String>, Gone> {
        let options = vec![
            PermissionOption::new(ALLOW_ONCE, "Allow", PermissionOptionKind::AllowOnce),
            PermissionOption::new(ALLOW_ALWAYS, "Always allow", PermissionOptionKind::AllowAlways),
            PermissionOption::new(REJECT_ONCE, "Deny", PermissionOptionKind::RejectOnce),
        ];
        let request = RequestPermissionRequest::new(self.session.id.clone(), call, options);
        let ticket = self.peer.ask("session/request_permission", &request);
        let answer = self.peer.wait_unless_cancelled::<RequestPermissionResponse>(ticket)?;
        Ok(match answer.map(|answer| answer.map(|response| response.outcome)) {
            None | Some(Ok(RequestPermissionOutcome::Cancelled)) => Err(CANCELLED.to_owned()),
            Some(Ok(RequestPermissionOutcome::Selected(selected)))
                if [ALLOW_ONCE, ALLOW_ALWAYS].contains(&&*selected.option_id.0) =>
            {
                Ok(())
            }
            Some(Ok(_)) => {
                Err("Permission was denied. Do not try the same again; say what you wanted to do.".to_owned())
            }
            Some(Err(error)) => Err(format!("Permission could not be asked for: {}", error.message)),
        })
    }

    fn ask_host(&mut self, one: &Use) -> Plan {
        // A cancel may have come while permission was asked for another use.
        if self.peer.is_cancelled() {
            return Plan::Done(self.done(one, Outcome::error(CANCELLED)));
        }
        self.begun(one);
        let call = HostToolCall {
            session_id: self.session.id.clone(),
            tool_call_id: one.id.clone(),
            name: one.name.clone(),
            input: one.input.clone(),
        };
        Plan::Asked(self.peer.ask(TOOL_CALL, &call))
    }

    fn host_result(&mut self, one: &Use, ticket: Ticket) -> Result<Outcome, Gone> {
        let answer = self.peer.wait_unless_cancelled::<HostToolResult>(ticket)?;
        let outcome = match answer {
            None => Outcome::error("Cancelled: it may have done all, a part or none of its work."),
            Some(Ok(HostToolResult { content, is_error })) => Outcome { content, is_error, change: None },
            Some(Err(error)) => Outcome::error(failed(error)),
        };
        Ok(self.done(one, outcome))
    }

    fn run_here(&mut self, one: &Use, tool: &'static dyn Tool) -> Outcome {
        self.peer.drain();
        if self.peer.is_cancelled() {
            return self.done(one, Outcome::error(CANCELLED));
        }
        self.begun(one);
        let peer = &mut *self.peer;
        let mut cancelled = || {
            peer.drain();
            peer.is_cancelled()
        };
        let mut context = Context { workspace: &self.session.workspace, cancelled: &mut cancelled };
        let mut outcome = match tool.run(&one.input, &mut context) {
            Ok(outcome) => outcome,
            Err(Refusal(words)) => Outcome::error(words),
        };
        for block in &mut outcome.content {
            if let Block::Text { text } = block {
                *text = capped(std::mem::take(text), "ask for less at once");
            }
        }
        self.done(one, outcome)
    }
}

/// An error of a host's tool in words for the model.
fn failed(error: Error) -> String {
    let failure = failure_of(error, "The tool could not be run");
    let mut words = failure.message;
    for hint in failure.hints {
        words.push_str("\nhint: ");
        words.push_str(&hint);
    }
    words
}
