//! `call`: what a guest may know and say about the call it serves. What it says while it runs goes where its log goes.

use leanclaw_types::{Caller, Failure, failure::code};
use leanclaw_wasm::Limited;
use wasmtime::component::Resource;

use crate::bindings::imports::call::{Host, HostContext};
use crate::bindings::imports::types;
use crate::logs::{Level, cut};
use crate::state::{InstanceState, call_id, to_guest};

/// The handle a guest gets for one call. It holds nothing and is in no table: its number is the call's, and what it shows
/// is the frame of the running call. So a handle kept from an earlier call never shows another caller's, and one that is
/// never dropped costs the host nothing.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Context(());

impl Context {
    /// The handle of this call.
    pub(crate) fn of_call(call: u64) -> Resource<Self> {
        Resource::new_own(Self::number(call))
    }

    /// Two calls of one instance that share a number are four thousand million calls apart.
    fn number(call: u64) -> u32 {
        u32::try_from(call & u64::from(u32::MAX)).unwrap_or_default()
    }
}

fn to_record(caller: &Caller) -> types::Caller {
    types::Caller {
        kind: caller.kind.clone(),
        id: caller.id.clone(),
        role: caller.role.clone(),
        scopes: caller.scopes.clone(),
        session_key: caller.session_key.clone(),
        extra: caller.extra.as_ref().map(serde_json::Value::to_string),
    }
}

impl InstanceState {
    fn check(&mut self, context: &Resource<Context>) -> wasmtime::Result<()> {
        self.enter()?;
        if context.rep() != Context::number(self.frame.call) {
            wasmtime::bail!("a call context was used outside its call");
        }
        Ok(())
    }
}

impl Host for InstanceState {}

impl HostContext for InstanceState {
    fn id(&mut self, context: Resource<Context>) -> wasmtime::Result<String> {
        self.check(&context)?;
        Ok(call_id(self.frame.call))
    }

    fn caller(&mut self, context: Resource<Context>) -> wasmtime::Result<types::Caller> {
        self.check(&context)?;
        Ok(to_record(&self.frame.context.caller))
    }

    fn remaining_ms(&mut self, context: Resource<Context>) -> wasmtime::Result<u64> {
        self.check(&context)?;
        Ok(u64::try_from(self.limiter().remaining().as_millis()).unwrap_or(u64::MAX))
    }

    fn cancelled(&mut self, context: Resource<Context>) -> wasmtime::Result<bool> {
        self.check(&context)?;
        Ok(self.is_cancelled())
    }

    fn progress(
        &mut self,
        context: Resource<Context>,
        done: u64,
        total: Option<u64>,
        note: Option<String>,
    ) -> wasmtime::Result<()> {
        self.check(&context)?;
        let mut text = total.map_or_else(|| done.to_string(), |total| format!("{done} of {total}"));
        if let Some(note) = note {
            text.push(' ');
            text.push_str(cut(&note, self.limiter().limits().log_line_bytes));
        }
        // Progress that is over the limit may be lost: it changes nothing.
        self.write_line(Level::Debug, "progress", &text);
        Ok(())
    }

    fn emit_text(&mut self, context: Resource<Context>, delta: String) -> wasmtime::Result<Result<(), types::Failure>> {
        self.check(&context)?;
        if self.is_cancelled() {
            let failure = Failure::new(code::CANCELLED, "Nobody waits for the answer of this call any more.");
            return Ok(Err(to_guest(&failure.hint("stop working and return"))));
        }
        if self.write_line(Level::Debug, "text", &delta) {
            return Ok(Ok(()));
        }
        let failure = Failure::new(code::BUDGET_EXHAUSTED, "This call has written as many lines as one call may.")
            .hint("emit larger pieces, or give the whole text as the answer");
        Ok(Err(to_guest(&failure)))
    }

    fn drop(&mut self, _context: Resource<Context>) -> wasmtime::Result<()> {
        Ok(())
    }
}
