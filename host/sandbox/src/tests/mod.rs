//! Programs in the sandbox, most of them hostile: components made from WebAssembly text.

mod another;
mod bounds;
mod files;
mod many;
mod shut_in;
mod wire;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leanclaw_test_guests::Guest;
use leanclaw_wasm::{EngineSettings, Wasm, WasmSource};
use tempfile::TempDir;

use crate::{Cause, Exit, LogLine, LogSink, Run, RunLimits, RunSpec, Sandbox, WasiSandbox};

/// Longer than anything takes that ends at all.
const PLENTY: Duration = Duration::from_secs(60);

const WORLD: &str = "export wasi:cli/run@0.2.12; import wasi:cli/stdin@0.2.12; import wasi:cli/stdout@0.2.12;
    import wasi:cli/stderr@0.2.12; import wasi:cli/exit@0.2.12; import wasi:cli/environment@0.2.12;
    import wasi:io/streams@0.2.12; import wasi:io/poll@0.2.12; import wasi:clocks/monotonic-clock@0.2.12;
    import wasi:filesystem/types@0.2.12; import wasi:filesystem/preopens@0.2.12; import wasi:sockets/network@0.2.12;
    import wasi:sockets/tcp-create-socket@0.2.12; import wasi:sockets/tcp@0.2.12;
    import wasi:sockets/instance-network@0.2.12; import wasi:sockets/ip-name-lookup@0.2.12;";

/// Short ways to what a program does. An error of a file's function ends the program with 100 and the error's number.
const HELP: &str = "
    (func $say (param $at i32) (param $length i32)
        (local $stream i32)
        (call $streams.output-stream.blocking-write-and-flush
            (local.tee $stream (call $stdout.get-stdout)) (local.get $at) (local.get $length) (call $room))
        (call $streams.output-stream.drop (local.get $stream)))
    (func $complain (param $at i32) (param $length i32)
        (local $stream i32)
        (call $streams.output-stream.blocking-write-and-flush
            (local.tee $stream (call $stderr.get-stderr)) (local.get $at) (local.get $length) (call $room))
        (call $streams.output-stream.drop (local.get $stream)))
    (func $leave (param $code i32) (call $exit.exit-with-code (local.get $code)))
    (func $check (param $area i32) (param $at i32)
        (if (i32.load8_u (local.get $area))
            (then (call $leave (i32.add (i32.const 100)
                (i32.load8_u (i32.add (local.get $area) (local.get $at))))))))
    (func $folder (param $index i32) (result i32)
        (local $area i32)
        (call $preopens.get-directories (local.tee $area (call $room)))
        (i32.load (i32.add (i32.load (local.get $area)) (i32.mul (local.get $index) (i32.const 12)))))
    (func $open (param $folder i32) (param $at i32) (param $length i32) (param $open i32) (param $flags i32) (result i32)
        (local $area i32)
        (call $types.descriptor.open-at (local.get $folder) (i32.const 1) (local.get $at) (local.get $length)
            (local.get $open) (local.get $flags) (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 4))
        (i32.load offset=4 (local.get $area)))
    (func $write (param $file i32) (param $at i32) (param $length i32)
        (local $area i32)
        (call $types.descriptor.write (local.get $file) (local.get $at) (local.get $length) (i64.const 0)
            (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 8)))
    (func $sleep
        (call $poll.pollable.block (call $monotonic-clock.subscribe-duration (i64.const 3600000000000))))";

/// A program that does what `run` says and, if that leaves nothing else, ends well.
fn program(run: &str) -> Guest {
    Guest::new(WORLD).fields(HELP).run("run.run", &format!("{run} (i32.const 0)"))
}

/// A program that gives back what it reads.
fn echo() -> Guest {
    program(
        "(local.set $i (call $stdin.get-stdin))
        (local.set $area (call $room))
        (local.set $k (global.get $heap))
        (block $end (loop $more
            (global.set $heap (local.get $k))
            (call $streams.input-stream.blocking-read (local.get $i) (i64.const 4096) (local.get $area))
            (br_if $end (i32.load8_u (local.get $area)))
            (local.set $j (call $stdout.get-stdout))
            (call $streams.output-stream.blocking-write-and-flush (local.get $j)
                (i32.load offset=4 (local.get $area)) (i32.load offset=8 (local.get $area)) (call $room))
            (call $streams.output-stream.drop (local.get $j))
            (br $more)))",
    )
}

const SPIN: &str = "(loop $ever (br $ever))";

fn engine(max_instances: u32) -> Wasm {
    Wasm::new(EngineSettings { max_instances, ..EngineSettings::default() }).unwrap()
}

async fn load(wasm: &Wasm, guest: &Guest) -> WasiSandbox {
    WasiSandbox::load(wasm, &WasmSource::bytes(guest.build().unwrap())).await.unwrap()
}

/// A program in a sandbox and the folder it works in.
struct Place {
    wasm: Wasm,
    sandbox: WasiSandbox,
    folder: TempDir,
    limits: RunLimits,
    lines: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Place {
    async fn of(guest: &Guest) -> Self {
        let wasm = engine(8);
        let sandbox = load(&wasm, guest).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("workspace")).unwrap();
        Self { wasm, sandbox, folder, limits: RunLimits::default(), lines: Arc::default() }
    }

    /// The same with other limits.
    fn with(mut self, change: impl FnOnce(&mut RunLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    fn workspace(&self) -> std::path::PathBuf {
        self.folder.path().join("workspace")
    }

    fn spec(&self) -> RunSpec {
        let lines = Arc::clone(&self.lines);
        let log: LogSink =
            Arc::new(move |line: LogLine<'_>| lines.lock().unwrap().push((line.text.to_owned(), line.is_hosts)));
        RunSpec { log, limits: self.limits, ..spec(&self.workspace()) }
    }

    async fn start(&self) -> Run {
        self.sandbox.start(self.spec()).await.unwrap()
    }

    /// Runs to the end without a word.
    async fn exit(&self) -> Exit {
        let mut run = self.start().await;
        ended(&mut run).await
    }
}

fn spec(workspace: &Path) -> RunSpec {
    RunSpec {
        run_id: "run-1".into(),
        group: "family".into(),
        workspace: workspace.to_path_buf(),
        mounts: Vec::new(),
        time_zone: None,
        limits: RunLimits::default(),
        log: Arc::new(|_| {}),
    }
}

/// The end of a run that has to end by itself.
async fn ended(run: &mut Run) -> Exit {
    tokio::time::timeout(PLENTY, run.process.wait()).await.expect("the run ends")
}

/// Runs a program once in a fresh folder.
async fn cause_of(run: &str) -> Cause {
    Place::of(&program(run)).await.exit().await.cause
}
