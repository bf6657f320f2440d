//! A component that is linked and ready to be instantiated, and one instance of it.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use leanclaw_types::Failure;
use leanclaw_wasm::{CallError, GuestStore, InstancePermit, Wasm};
use tracing::Span;
use tracing::field::Empty;
use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre, Resource};
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;

use crate::bindings::exports;
use crate::bindings::imports::types;
use crate::diagnose::CONTRACT_VERSION;
use crate::error::outcome;
use crate::host::call::Context;
use crate::linker::{Linkers, Shape};
use crate::logs::LOG_TARGET;
use crate::state::{Frame, InstanceState, Shared, call_id};

/// A linked component with the indices of the exports it has.
pub(crate) struct Guest {
    pre: InstancePre<InstanceState>,
    exports: Exports,
    /// `method.invoke`, for instances that are asked once.
    invoke: Option<ComponentExportIndex>,
}

macro_rules! exports {
    ($($name:ident: $module:path),* $(,)?) => {
        /// Which interfaces the component exports.
        #[derive(Default)]
        struct Exports {
            $($name: Option<paths::$name::GuestIndices>,)*
        }

        impl Exports {
            /// Finds what is there; an interface under one of these names with other functions is an error.
            fn find(pre: &InstancePre<InstanceState>, component: &Component) -> wasmtime::Result<Self> {
                Ok(Self { $($name: find(stringify!($name), component, paths::$name::GuestIndices::new(pre))?,)* })
            }
        }

        /// The functions of one instance, looked up when first used.
        #[derive(Default)]
        pub(crate) struct Bound {
            $($name: Option<paths::$name::Guest>,)*
        }

        impl LiveInstance {
            $(
                /// The functions of this interface.
                pub(crate) fn $name(&mut self, store: &mut Store<InstanceState>) -> wasmtime::Result<&paths::$name::Guest> {
                    if self.bound.$name.is_none() {
                        let Some(indices) = &self.guest.exports.$name else {
                            wasmtime::bail!("the component does not export `{}`", stringify!($name).replace('_', "-"));
                        };
                        let loaded = indices.load(&mut *store, &self.instance);
                        self.bound.$name = Some(loaded.map_err(|error| error.context(foreign(stringify!($name))))?);
                    }
                    let Some(found) = &self.bound.$name else { wasmtime::bail!("unreachable: just bound") };
                    Ok(found)
                }
            )*
        }

        mod paths {
            $(pub(super) use $module as $name;)*
        }
    };
}

exports! {
    channel: super::exports::channel,
    channel_actions: super::exports::channel_actions,
    webhook: super::exports::webhook,
    poll: super::exports::poll,
    socket: super::exports::socket,
    skill: super::exports::skill,
    method: super::exports::method,
    hook: super::exports::hook,
    http: super::incoming_handler,
}

/// An export has the right name and another type.
fn foreign(name: &str) -> String {
    format!("its export `{name}` is not the one of the contract; build it against this host's `wit` folder")
}

impl Guest {
    /// Links `component` with what `shape` grants.
    pub(crate) fn link(component: &Component, linkers: &Linkers, shape: &Shape) -> wasmtime::Result<Self> {
        let pre = linkers.get(shape)?.instantiate_pre(component)?;
        let exports = Exports::find(&pre, component)?;
        let methods = component.get_export_index(None, interface("method"));
        let invoke = methods.and_then(|methods| component.get_export_index(Some(&methods), "invoke"));
        Ok(Self { pre, exports, invoke })
    }
}

/// An interface of the contract, as a component names it.
fn interface(name: &str) -> String {
    format!("leanclaw:plugin/{}@{CONTRACT_VERSION}", name.replace('_', "-"))
}

/// Finds every 0.2 version.
const INCOMING_HANDLER: &str = "wasi:http/incoming-handler@0.2.0";

/// Whether the component serves HTTP requests.
pub(crate) fn serves_http(component: &Component) -> bool {
    component.get_export_index(None, INCOMING_HANDLER).is_some()
}

/// The indices of one interface; none when the component does not export it.
fn find<I>(name: &str, component: &Component, indices: wasmtime::Result<I>) -> wasmtime::Result<Option<I>> {
    let error = match indices {
        Ok(indices) => return Ok(Some(indices)),
        Err(error) => error,
    };
    let interface = match name {
        "http" => INCOMING_HANDLER.to_owned(),
        ours => self::interface(ours),
    };
    if component.get_export_index(None, &interface).is_none() {
        return Ok(None);
    }
    Err(error.context(foreign(&interface)))
}

/// One instance inside its store.
pub(crate) struct LiveInstance {
    guest: Arc<Guest>,
    instance: Instance,
    bound: Bound,
    /// It was asked for a method before.
    is_asked: bool,
}

impl LiveInstance {
    /// Calls `method.invoke`. Its type is checked against the component's at the first call, and once more, with the rest of
    /// the interface, at the second: most instances answer one call, and looking up what they are not asked costs a
    /// noticeable part of it.
    pub(crate) async fn invoke(
        &mut self,
        store: &mut Store<InstanceState>,
        context: Resource<Context>,
        name: &str,
        params: &String,
    ) -> wasmtime::Result<Result<String, types::Failure>> {
        let is_first = !std::mem::replace(&mut self.is_asked, true);
        let Some(invoke) = self.guest.invoke.filter(|_| is_first) else {
            return self.method(store)?.call_invoke(store, context, name, params).await;
        };
        let found = self.instance.get_typed_func::<Invoke<'_>, Invoked>(&mut *store, invoke);
        let invoke = found.map_err(|error| error.context(foreign("method")))?;
        Ok(invoke.call_async(store, (context, name, params.as_str())).await?.0)
    }
}

type Invoke<'a> = (Resource<Context>, &'a str, &'a str);
type Invoked = (Result<String, types::Failure>,);

/// A store with the one instance that lives in it.
pub(crate) struct Live {
    pub(crate) store: GuestStore<InstanceState>,
    instance: Option<Box<LiveInstance>>,
    /// What the instance is made of, until it is made.
    guest: Option<Arc<Guest>>,
}

impl Live {
    /// Makes a store for the call in `frame`. The instance itself is made inside the first call, under its bounds.
    pub(crate) fn new(permit: InstancePermit, guest: Arc<Guest>, shared: Arc<Shared>, frame: Frame) -> Self {
        let store = GuestStore::new(permit, InstanceState::new(shared, frame));
        Self { store, instance: None, guest: Some(guest) }
    }

    /// Runs `work`, a call of `export`, on the instance, instantiating it first if this is the first call. Any outer error
    /// is final for the store.
    pub(crate) async fn run<R>(
        &mut self,
        export: &'static str,
        wall_clock: Duration,
        work: impl AsyncFnOnce(&mut Store<InstanceState>, &mut LiveInstance) -> wasmtime::Result<Result<R, Failure>>,
    ) -> Result<Result<R, Failure>, CallError> {
        let span = call_span(self.store.data(), export);
        let Self { store, instance, guest } = self;
        let pipe = store.data().pipe().clone();
        let call = store.call(wall_clock, async |store| {
            let live = match instance {
                Some(live) => live,
                None => {
                    let Some(guest) = guest.take() else { wasmtime::bail!("the instance could not be made before") };
                    // On the heap: no later call of a resident instance needs its place.
                    let made = Box::pin(guest.pre.instantiate_async(&mut *store)).await?;
                    let bound = Bound::default();
                    instance.insert(Box::new(LiveInstance { guest, instance: made, bound, is_asked: false }))
                }
            };
            work(store, live).await
        });
        observed(&span, pin!(pipe.attend(pin!(call)))).await
    }
}

/// The span of one guest call. Most programs show none of it, so it costs one look at a flag then.
fn call_span(state: &InstanceState, export: &'static str) -> Span {
    tracing::debug_span!(
        target: LOG_TARGET,
        "guest_call",
        call_id = call_id(state.frame.call),
        plugin = %state.shared.key,
        export,
        outcome = Empty,
        duration_us = Empty,
    )
}

/// Runs a guest call inside its span, and closes it with how it ended and how long it took.
///
/// Pinned by the caller: taken by value, a large future would lie in this one twice.
async fn observed<R>(
    span: &Span,
    mut call: Pin<&mut impl Future<Output = Result<Result<R, Failure>, CallError>>>,
) -> Result<Result<R, Failure>, CallError> {
    if span.is_disabled() {
        return call.await;
    }
    let started = Instant::now();
    let result = std::future::poll_fn(|task| span.in_scope(|| call.as_mut().poll(task))).await;
    let outcome = match &result {
        Ok(Ok(_)) => "ok",
        Ok(Err(_)) => "failure",
        Err(error) => outcome(error),
    };
    let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    span.record("outcome", outcome).record("duration_us", duration_us);
    span.in_scope(|| tracing::debug!(target: LOG_TARGET, "guest call ended"));
    result
}

/// Every instance there may be is in use, and stayed so.
pub(crate) fn crowded(wasm: &Wasm, shared: &Shared) -> Failure {
    let most = wasm.settings().max_instances;
    let waited = shared.limits.wall_clock;
    let key = &shared.key;
    let message = format!("The plugin `{key}` got no instance within {waited:?}: all {most} there may be are in use.");
    Failure::unavailable(message)
        .hint("raise LEANCLAW_MAX_INSTANCES")
        .hint("leanclaw plugin list shows which plugins are resident or busy")
        .retry_after(1000)
}
