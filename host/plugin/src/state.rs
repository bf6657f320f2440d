//! The data of one store: what belongs to the instance, and the frame of the call that is running in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use leanclaw_egress::{EgressError, EgressHandle};
use leanclaw_types::permission::Permissions;
use leanclaw_types::{Caller, Failure, PluginKey};
use leanclaw_wasm::{Limited, Limiter, Limits};
use serde_json::Value;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::calls::GuestCall;
use crate::host::wasi_http::{EgressHooks, FIELDS_BYTES};
use crate::logs::LogRing;
use crate::runtime::Inner;
use crate::services::Services;
use crate::stdio::LogPipe;
use leanclaw_types::plugin::PluginEvent;

/// What every instance of one plugin and account shares. Made anew when a grant or a setting changes.
pub(crate) struct Shared {
    /// Whose instances these are.
    pub(crate) key: PluginKey,
    /// Effective rights: asked for by the manifest and granted.
    pub(crate) granted: Permissions,
    /// Validated settings as JSON text.
    pub(crate) settings: String,
    /// The channel ids the manifest declares; the first stamps what comes in.
    pub(crate) channels: Vec<String>,
    /// Bounds of every instance.
    pub(crate) limits: Limits,
    /// The way out.
    pub(crate) egress: EgressHandle,
    /// Where guest text goes.
    pub(crate) logs: Arc<LogRing>,
    /// Where plugin events go.
    pub(crate) events: broadcast::Sender<Arc<PluginEvent>>,
    /// The rest of the program.
    pub(crate) services: Services,
    /// The plugins of the program, for the hooks on what this one hands in.
    pub(crate) program: Weak<Inner>,
    /// Cancelled when the plugin is removed or the program ends: calls that run are asked to come to an end.
    pub(crate) ending: CancellationToken,
}

/// What one call carries beside its arguments.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Who calls; the host's own statement.
    pub caller: Arc<Caller>,
    /// Set to true, it tells the guest that nobody waits any more.
    cancelled: Arc<AtomicBool>,
    /// Whether the call is a question about a message that came in.
    pub(crate) is_about_message: bool,
}

impl CallContext {
    /// A call by `caller`.
    #[must_use]
    pub fn of(caller: impl Into<Arc<Caller>>) -> Self {
        Self { caller: caller.into(), cancelled: Arc::default(), is_about_message: false }
    }

    /// Tells the guest that nobody waits for its answer, when what is returned is dropped before [`Waiting::over`].
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting(Some(Arc::clone(&self.cancelled)))
    }
}

/// Somebody waits for an answer.
pub(crate) struct Waiting(Option<Arc<AtomicBool>>);

impl Waiting {
    /// The answer is there.
    pub(crate) fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(cancelled) = &self.0 {
            cancelled.store(true, Ordering::Release);
        }
    }
}

/// The call that is running.
pub(crate) struct Frame {
    /// Rises by one per guest call of the whole program.
    pub(crate) call: u64,
    pub(crate) context: CallContext,
    /// What is asked of the guest, until it is asked. It waits here because an argument that is handed on from future to
    /// future takes its place in each of them.
    pub(crate) work: Option<GuestCall>,
}

/// The data of a store.
pub(crate) struct InstanceState {
    limiter: Limiter,
    /// Made when first asked for: most calls of most guests never do.
    wasi: Option<Box<WasiCtx>>,
    http: WasiHttpCtx,
    /// Made when first asked for, as `wasi` is.
    hooks: Option<EgressHooks>,
    /// What would have allowed the outgoing requests that were refused to the running call.
    pub(crate) refusals: Option<Refusals>,
    pub(crate) table: ResourceTable,
    /// Always empty, for a call that used up its host calls.
    no_handles: ResourceTable,
    pub(crate) shared: Arc<Shared>,
    pub(crate) frame: Frame,
    /// Bytes that the blobs of this instance hold, counted in [`crate::host::blobs`].
    pub(crate) parked_bytes: usize,
    /// The id of the running call, for the log pipes, which cannot see the frame.
    pipe: LogPipe,
}

/// Most hints that one failed call carries for requests that were refused to it.
const MAX_REFUSAL_HINTS: usize = 4;

/// What would have allowed the outgoing requests that were refused to a call. A guest is told no more than a standard
/// error code, and the person who sees its failure has to know what to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<Vec<String>>>);

impl Refusals {
    /// Remembers what would have allowed a refused request.
    pub(crate) fn note(&self, error: &EgressError) {
        if !error.is_denial() {
            return;
        }
        let mut hints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for hint in error.hints() {
            if hints.len() < MAX_REFUSAL_HINTS && !hints.contains(&hint) {
                hints.push(hint);
            }
        }
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Adds what the guest's own words do not say yet.
    pub(crate) fn explain(&self, failure: &mut Failure) {
        let hints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failure.hints.extend(hints.iter().filter(|hint| !failure.message.contains(hint.as_str())).cloned());
    }
}

/// How a call is named in logs and audit rows.
pub(crate) fn call_id(call: u64) -> String {
    format!("call-{call}")
}

impl InstanceState {
    pub(crate) fn new(shared: Arc<Shared>, frame: Frame) -> Self {
        let limits = shared.limits;
        let pipe = LogPipe::new(Arc::clone(&shared.logs), frame.call, &limits);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let mut no_handles = ResourceTable::new();
        no_handles.set_max_capacity(0);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES);
        Self {
            limiter: Limiter::new(limits),
            wasi: None,
            http,
            hooks: None,
            refusals: None,
            table,
            no_handles,
            shared,
            frame,
            parked_bytes: 0,
            pipe,
        }
    }

    /// Whether nobody wants the answer of the running call any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.frame.context.cancelled.load(Ordering::Acquire) || self.shared.ending.is_cancelled()
    }

    /// Starts the next call of a resident instance.
    pub(crate) fn begin(&mut self, frame: Frame) {
        self.pipe.begin(frame.call);
        if let Some(refusals) = &self.refusals {
            refusals.clear();
        }
        self.frame = frame;
    }

    /// Where the guest's output goes.
    pub(crate) fn pipe(&self) -> &LogPipe {
        &self.pipe
    }

    /// Counts one host call; every host function of ours starts with it.
    pub(crate) fn enter(&mut self) -> wasmtime::Result<()> {
        self.limiter.count_host_call().map_err(Into::into)
    }
}

/// What the standard interfaces reach.
fn wasi(pipe: &LogPipe, limits: &Limits) -> WasiCtx {
    WasiCtxBuilder::new()
        .stdout(pipe.stdout())
        .stderr(pipe.stderr())
        .max_random_size(limits.random_bytes)
        // A guest that names these interfaces loads, and finds nothing in them. That is said here, and not left to what
        // the WASI crate takes for granted: the network is reached through egress or not at all. Without a socket there
        // is no descriptor of this process either.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .socket_addr_check(|_, _| Box::pin(std::future::ready(false)))
        .build()
}

impl Limited for InstanceState {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.limiter
    }
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| Box::new(wasi(&self.pipe, self.limiter.limits())));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl WasiHttpView for InstanceState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        // Each function of the interface comes through here once and cannot be failed here. Beyond the limit it gets a
        // table that holds nothing and takes nothing, which ends the call.
        let table = match self.limiter.count_host_call() {
            Ok(()) => &mut self.table,
            Err(_) => &mut self.no_handles,
        };
        let (shared, refusals) = (&self.shared, &mut self.refusals);
        let hooks = self
            .hooks
            .get_or_insert_with(|| EgressHooks::new(Arc::clone(shared), refusals.get_or_insert_default().clone()));
        hooks.set_deadline(self.limiter.deadline());
        WasiHttpCtxView { hooks, table, ctx: &mut self.http }
    }
}

/// A `failure` record as the host writes it.
pub(crate) fn to_guest(failure: &Failure) -> crate::bindings::imports::types::Failure {
    let mut message = failure.message.clone();
    for hint in &failure.hints {
        message.push_str("\nhint: ");
        message.push_str(hint);
    }
    crate::bindings::imports::types::Failure {
        code: failure.code.clone(),
        message,
        retryable: failure.retryable,
        retry_after_ms: failure.retry_after_ms,
        extra: failure.extra.as_ref().map(Value::to_string),
    }
}

/// A `failure` record as a guest wrote it: cut, escaped, with `extra` kept only when it is JSON.
pub(crate) fn from_guest(failure: crate::bindings::imports::types::Failure) -> Failure {
    const MESSAGE_BYTES: usize = 4096;
    const CODE_BYTES: usize = 64;
    Failure {
        code: crate::logs::escape(crate::logs::cut(&failure.code, CODE_BYTES)),
        message: crate::logs::escape_lines(crate::logs::cut(&failure.message, MESSAGE_BYTES)),
        retryable: failure.retryable,
        retry_after_ms: failure.retry_after_ms,
        extra: failure.extra.and_then(|text| serde_json::from_str(&text).ok()),
        hints: Vec::new(),
    }
}
