//! `call`: what a guest may know and say about the call it serves.

use std::sync::atomic::Ordering;

use leanclaw_types::{Caller, Failure};
use leanclaw_wasm::Limited;
use tokio::sync::mpsc::error::TrySendError;
use wasmtime::component::Resource;

use crate::bindings::imports::call::{Host, HostContext};
use crate::bindings::imports::types;
use crate::state::{CallUpdate, InstanceState, call_id, to_guest};

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
        Ok(self.frame.context.cancelled.load(Ordering::Acquire))
    }

    fn progress(
        &mut self,
        context: Resource<Context>,
        done: u64,
        total: Option<u64>,
        note: Option<String>,
    ) -> wasmtime::Result<()> {
        self.check(&context)?;
        if let Some(updates) = &self.frame.context.updates {
            // Progress may be skipped: the next one says more.
            let _ = updates.try_send(CallUpdate::Progress { done, total, note });
        }
        Ok(())
    }

    fn emit_text(&mut self, context: Resource<Context>, delta: String) -> wasmtime::Result<Result<(), types::Failure>> {
        self.check(&context)?;
        let Some(updates) = &self.frame.context.updates else { return Ok(Ok(())) };
        Ok(match updates.try_send(CallUpdate::Text(delta)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                let failure = Failure::new("rate-limited", "The reader of this call is behind.")
                    .hint("wait a moment and say it again, in larger pieces")
                    .retry_after(20);
                Err(to_guest(&failure))
            }
            Err(TrySendError::Closed(_)) => {
                let failure = Failure::new("cancelled", "Nobody reads this call any more.");
                Err(to_guest(&failure.hint("stop working and return")))
            }
        })
    }

    fn drop(&mut self, _context: Resource<Context>) -> wasmtime::Result<()> {
        Ok(())
    }
}
