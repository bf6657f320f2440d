//! The reference: wasmtime and nothing else. The same component, engine configuration, WASI context and epochs as the
//! plugin runtime, and none of its bounds, services or records.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use wasmtime::component::{Component, HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use generated::{Bare, BarePre};

mod generated {
    wasmtime::component::bindgen!({
        inline: "package bench:bare@0.1.0;
        world bare {
            import leanclaw:plugin/log@0.1.0;
            export leanclaw:plugin/method@0.1.0;
        }",
        path: "../../wit",
        world: "bench:bare/bare",
        exports: { default: async },
        require_store_data_send: true,
        with: { "leanclaw:plugin/call.context": super::CallHandle },
    });
}

use generated::leanclaw::plugin::{call, log, types};

/// What a guest borrows for its call.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct CallHandle;

/// The data of a store.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for State {}

/// Nor does one write a line.
impl log::Host for State {
    fn write(&mut self, _level: String, _message: String, _fields: Vec<(String, String)>) {}

    fn print(&mut self, _: log::Output, _: u8, _: u64, _: u64, _: u64, _: u64, _: u64, _: u64, _: u64, _: u64) {}
}

impl call::Host for State {}

/// No guest of the bench asks anything of its call.
impl call::HostContext for State {
    fn id(&mut self, _: Resource<CallHandle>) -> String {
        String::new()
    }

    fn caller(&mut self, _: Resource<CallHandle>) -> types::Caller {
        let nothing = String::new;
        let (kind, id, role) = (nothing(), nothing(), nothing());
        types::Caller { kind, id, role, scopes: Vec::new(), session_key: None, extra: None }
    }

    fn remaining_ms(&mut self, _: Resource<CallHandle>) -> u64 {
        0
    }

    fn cancelled(&mut self, _: Resource<CallHandle>) -> bool {
        false
    }

    fn progress(&mut self, _: Resource<CallHandle>, _: u64, _: Option<u64>, _: Option<String>) {}

    fn emit_text(&mut self, _: Resource<CallHandle>, _: String) -> Result<(), types::Failure> {
        Ok(())
    }

    fn drop(&mut self, _: Resource<CallHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// The configuration of the plugin runtime's engine, written out.
fn config() -> Config {
    let instances = 1000;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * 100)
        .total_memories(instances * 4)
        .total_tables(instances * 20)
        .total_stacks(instances)
        .total_gc_heaps(instances)
        .max_core_instances_per_component(100)
        .max_memories_per_component(4)
        .max_tables_per_component(20)
        .max_memories_per_module(4)
        .max_tables_per_module(20)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .table_elements(60_000)
        .max_memory_size(512 << 20)
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(1 << 20)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_memory64(false)
        .memory_init_cow(true)
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// An engine with its epoch thread.
pub(crate) fn engine() -> Result<Engine> {
    let engine = Engine::new(&config())?;
    let weak = engine.weak();
    std::thread::spawn(move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    Ok(engine)
}

/// A component, linked.
pub(crate) struct Guest {
    engine: Engine,
    pre: BarePre<State>,
}

/// One instance that stays.
pub(crate) struct Live {
    store: Store<State>,
    guest: Bare,
    /// The method's name and its parameters.
    words: (String, String),
}

impl Guest {
    /// Compiles and links.
    pub(crate) fn new(engine: &Engine, component: &[u8]) -> Result<Self> {
        let component = Component::from_binary(engine, component)?;
        let mut linker = Linker::<State>::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        types::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        call::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        log::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        Ok(Self { engine: engine.clone(), pre: BarePre::new(linker.instantiate_pre(&component)?)? })
    }

    /// Store, instance.
    pub(crate) async fn live(&self) -> Result<Live> {
        let state = State { wasi: WasiCtxBuilder::new().build(), table: ResourceTable::new() };
        let mut store = Store::new(&self.engine, state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let guest = self.pre.instantiate_async(&mut store).await?;
        Ok(Live { store, guest, words: ("run".to_owned(), "{}".to_owned()) })
    }

    /// Store, instance, one call of `run`, drop.
    pub(crate) async fn cycle(&self) -> Result<String> {
        self.live().await?.call().await
    }
}

impl Live {
    /// One call of `run`.
    pub(crate) async fn call(&mut self) -> Result<String> {
        let context = Resource::new_own(1);
        let (method, params) = &self.words;
        let called = self.guest.leanclaw_plugin_method().call_invoke(&mut self.store, context, method, params).await?;
        called.map_err(|failure| anyhow::anyhow!("{}: {}", failure.code, failure.message))
    }
}

/// `reference-engine`: loads components and holds them until standard input ends.
pub(crate) fn hold(components: &[PathBuf]) -> Result<ExitCode> {
    let engine = Engine::new(&config())?;
    let mut held = Vec::new();
    for path in components {
        // SAFETY: the bench that started this process compiled the file a moment ago with this engine.
        #[expect(unsafe_code, reason = "loading compiled code is what the program under test does too")]
        let component = unsafe { Component::deserialize_file(&engine, path) };
        held.push(component.map_err(anyhow::Error::from).with_context(|| format!("{} does not load", path.display()))?);
    }
    crate::report::say("loaded");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    drop(held);
    Ok(ExitCode::SUCCESS)
}

/// Compiles components for [`hold`] into `folder`.
pub(crate) fn precompile(components: &[PathBuf], folder: &std::path::Path) -> Result<Vec<PathBuf>> {
    let engine = Engine::new(&config())?;
    let compile = |path: &PathBuf| {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let made = folder.join(path.with_extension("cwasm").file_name().context("no file name")?);
        std::fs::write(&made, engine.precompile_component(&bytes)?)?;
        Ok(made)
    };
    components.iter().map(compile).collect()
}
