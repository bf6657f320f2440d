//! Tests with inline guests. Whatever runs guest code runs with the pool and without it.

mod cache;
mod calls;
mod compile;
mod engine;
mod limits;

use std::time::Duration;

use wasmtime::component::{Component, Instance, Linker, ResourceTable};

use crate::{
    Allocator, CallError, CompileError, EngineSettings, GuestStore, Limited, Limiter, Limits, LoadError, Pooling, Wasm,
    WasmSource,
};

/// Long enough to never matter for a guest that ends by itself.
const PLENTY: Duration = Duration::from_secs(60);

struct Data {
    limiter: Limiter,
    table: ResourceTable,
}

impl Limited for Data {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.limiter
    }
}

fn data(limits: Limits) -> Data {
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles);
    Data { limiter: Limiter::new(limits), table }
}

fn settings(pooling: Pooling) -> EngineSettings {
    EngineSettings { pooling, max_instances: 8, ..EngineSettings::default() }
}

/// One engine with the pool and one without, each checked to be what it claims.
impl Wasm {
    /// Compiles `bytes` the way everything is compiled.
    async fn compile(&self, bytes: Vec<u8>) -> Result<Component, CompileError> {
        match self.component(&WasmSource::bytes(bytes)).await {
            Ok(component) => Ok(component),
            Err(LoadError::Compile(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }
}

fn engines() -> [Wasm; 2] {
    let pooled = Wasm::new(settings(Pooling::Auto)).unwrap();
    assert!(matches!(pooled.allocator(), Allocator::Pooling { .. }), "these tests need a machine with room for a pool");
    let on_demand = Wasm::new(settings(Pooling::Off)).unwrap();
    assert!(matches!(on_demand.allocator(), Allocator::OnDemand { .. }));
    [pooled, on_demand]
}

fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

async fn component(wasm: &Wasm, text: &str) -> Component {
    wasm.compile(binary(text)).await.unwrap()
}

/// Wraps core functions into a component that exports `run: func(u32) -> u32`, lifted from the core export `run`.
fn guest(core: &str) -> String {
    format!(
        r#"(component
            (core module $m {core})
            (core instance $i (instantiate $m))
            (func (export "run") (param "n" u32) (result u32) (canon lift (core func $i "run"))))"#
    )
}

const DOUBLE: &str = r#"(func (export "run") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))"#;
const SPIN: &str = r#"(func (export "run") (param i32) (result i32) (loop (br 0)) unreachable)"#;
const TRAP: &str = r#"(func (export "run") (param i32) (result i32) unreachable)"#;

async fn start(wasm: &Wasm, component: &Component, limits: Limits) -> Result<(GuestStore<Data>, Instance), CallError> {
    start_with(&Linker::new(wasm.engine()), wasm, component, limits).await
}

async fn start_with(
    linker: &Linker<Data>,
    wasm: &Wasm,
    component: &Component,
    limits: Limits,
) -> Result<(GuestStore<Data>, Instance), CallError> {
    let mut store = GuestStore::new(wasm.instance_permit().await, data(limits));
    let instance = store.call(PLENTY, async |store| linker.instantiate_async(store, component).await).await?;
    Ok((store, instance))
}

async fn run(
    store: &mut GuestStore<Data>,
    instance: Instance,
    wall_clock: Duration,
    argument: u32,
) -> Result<u32, CallError> {
    store
        .call(wall_clock, async |store| {
            let function = instance.get_typed_func::<(u32,), (u32,)>(&mut *store, "run")?;
            Ok(function.call_async(&mut *store, (argument,)).await?.0)
        })
        .await
}
