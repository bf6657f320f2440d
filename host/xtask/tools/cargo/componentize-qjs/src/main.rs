//! `componentize-qjs` with the options of its npm command that plugin builds use, built from the crate.
//!
//! The crate is a library only. What is left out on purpose: `--minify`, which the npm package does in JavaScript, and
//! `--runtime`, since only the runtimes pinned with the crate are wanted here.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use componentize_qjs::{ComponentizeOpts, Runtime, componentize};
use lexopt::prelude::{Long, Short, ValueExt};

const USAGE: &str = "\
Convert JavaScript to WebAssembly components using QuickJS

Usage: componentize-qjs [OPTIONS] --wit <WIT> --js <JS>

Options:
  -w, --wit <WIT>           WIT file or folder
  -j, --js <JS>             JavaScript source file
      --module-root <PATH>  Folder in which JavaScript imports are resolved
  -o, --output <OUTPUT>     Component to write [default: output.wasm]
  -n, --world <WORLD>       World of the WIT package
      --stub-wasi           Stub all WASI imports with traps
      --disable-gc          Disable automatic garbage collection in QuickJS
      --opt-size            Use the smaller runtime
      --sync                Use the runtime without component-model async
  -h, --help                Print help";

/// The options of one run.
#[derive(Default)]
struct Arguments {
    wit: Option<PathBuf>,
    js: Option<PathBuf>,
    module_root: Option<PathBuf>,
    output: Option<PathBuf>,
    world: Option<String>,
    stub_wasi: bool,
    disable_gc: bool,
    opt_size: bool,
    sync: bool,
    help: bool,
}

fn parse() -> Result<Arguments> {
    let mut arguments = Arguments::default();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('w') | Long("wit") => arguments.wit = Some(parser.value()?.into()),
            Short('j') | Long("js") => arguments.js = Some(parser.value()?.into()),
            Long("module-root") => arguments.module_root = Some(parser.value()?.into()),
            Short('o') | Long("output") => arguments.output = Some(parser.value()?.into()),
            Short('n') | Long("world") => arguments.world = Some(parser.value()?.string()?),
            Long("stub-wasi") => arguments.stub_wasi = true,
            Long("disable-gc") => arguments.disable_gc = true,
            Long("opt-size") => arguments.opt_size = true,
            Long("sync") => arguments.sync = true,
            Short('h') | Long("help") => arguments.help = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(arguments)
}

fn main() -> Result<()> {
    let arguments = parse()?;
    if arguments.help {
        println!("{USAGE}");
        return Ok(());
    }
    let (Some(wit), Some(js)) = (arguments.wit, arguments.js) else {
        bail!("--wit and --js are required\n\n{USAGE}");
    };
    let source = std::fs::read_to_string(&js).with_context(|| format!("cannot read {}", js.display()))?;
    let component =
        tokio::runtime::Builder::new_current_thread().build()?.block_on(componentize(&ComponentizeOpts {
            wit_path: &wit,
            js_source: &source,
            js_path: Some(&js),
            module_root: arguments.module_root.as_deref(),
            world_name: arguments.world.as_deref(),
            stub_wasi: arguments.stub_wasi,
            disable_gc: arguments.disable_gc,
            runtime: Runtime::builtin(arguments.sync, arguments.opt_size),
        }))?;
    let output = arguments.output.unwrap_or_else(|| PathBuf::from("output.wasm"));
    std::fs::write(&output, component).with_context(|| format!("cannot write {}", output.display()))
}
