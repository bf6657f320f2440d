//! One linker per grant shape: an interface that is not granted is not there to be called.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use leanclaw_types::permission::Permissions;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

use crate::bindings::imports;
use crate::diagnose::Need;
use crate::host::wasi_http;
use crate::state::InstanceState;

/// Which grantable interfaces are linked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shape(Vec<Need>);

impl Shape {
    /// The shape of a component with these rights; `serves_http` says whether it exports `wasi:http/incoming-handler`.
    pub(crate) fn of(granted: &Permissions, serves_http: bool) -> Self {
        let linked = |need: &Need| need.is_met(granted) || (*need == Need::HttpTypes && serves_http);
        Self(Need::ALL.into_iter().filter(linked).collect())
    }
}

/// The linkers made so far. Building one takes about 100 us, so they are kept.
pub(crate) struct Linkers {
    engine: Engine,
    made: Mutex<HashMap<Shape, Arc<Linker<InstanceState>>>>,
}

impl Linkers {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, made: Mutex::default() }
    }

    /// The linker of `shape`.
    pub(crate) fn get(&self, shape: &Shape) -> wasmtime::Result<Arc<Linker<InstanceState>>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(linker) = made.get(shape) {
            return Ok(Arc::clone(linker));
        }
        let linker = Arc::new(self.build(shape)?);
        made.insert(shape.clone(), Arc::clone(&linker));
        Ok(linker)
    }

    fn build(&self, shape: &Shape) -> wasmtime::Result<Linker<InstanceState>> {
        type Own = HasSelf<InstanceState>;
        let mut linker = Linker::new(&self.engine);
        // All of WASI 0.2 with nothing in it: no directory, no environment, no sockets, output into the log.
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        imports::types::add_to_linker::<_, Own>(&mut linker, |state| state)?;
        imports::log::add_to_linker::<_, Own>(&mut linker, |state| state)?;
        imports::settings::add_to_linker::<_, Own>(&mut linker, |state| state)?;
        imports::blobs::add_to_linker::<_, Own>(&mut linker, |state| state)?;
        imports::messages::add_to_linker::<_, Own>(&mut linker, |state| state)?;
        imports::call::add_to_linker::<_, Own>(&mut linker, |state| state)?;
        for need in &shape.0 {
            match need {
                Need::Kv => imports::kv::add_to_linker::<_, Own>(&mut linker, |state| state)?,
                Need::Credentials => imports::credentials::add_to_linker::<_, Own>(&mut linker, |state| state)?,
                Need::Events => imports::events::add_to_linker::<_, Own>(&mut linker, |state| state)?,
                Need::Inbox => imports::inbox::add_to_linker::<_, Own>(&mut linker, |state| state)?,
                Need::HttpTypes => wasi_http::add_types_to_linker(&mut linker)?,
                Need::Http => {
                    imports::http::add_to_linker::<_, Own>(&mut linker, |state| state)?;
                    wasmtime_wasi_http::p2::bindings::http::outgoing_handler::add_to_linker::<_, WasiHttp>(
                        &mut linker,
                        InstanceState::http,
                    )?;
                }
            }
        }
        Ok(linker)
    }
}
