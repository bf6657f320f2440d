//! From exec to ready with a warm cache, and resident memory.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use leanclaw_bench::numbers::{median, megabytes, milliseconds};
use serde_json::{Value, json};

use crate::bare;
use crate::guests::{self, Language};
use crate::options::Places;
use crate::report::{Figure, Target, say};
use crate::server::{self, Home, Running, TOKEN};

/// The plugins of the second home.
const MANY: usize = 200;

/// One call per example, cheap, so that each has had an instance. What it answers does not matter: a feed cannot be
/// read without a network, and saying so takes an instance too.
fn example_calls() -> Vec<(String, Value)> {
    let tool = |name: &str, input: Value| ("tools.invoke".to_owned(), json!({"name": name, "args": input}));
    vec![
        ("notes.list".to_owned(), json!({})),
        tool("read_feed", json!({"url": "https://127.0.0.1:9/feed"})),
        tool("convert_units", json!({"value": 1, "from": "km", "to": "m"})),
        tool("text_statistics", json!({"text": "One sentence. And another one."})),
    ]
}

pub(crate) fn run(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let repeats = if quick { 5 } else { 15 };
    let mut figures = examples(places, repeats)?;
    figures.extend(many(places, repeats)?);
    Ok(figures)
}

fn examples(places: &Places, repeats: usize) -> Result<Vec<Figure>> {
    let home = Home::new(places)?;
    let mut components = Vec::new();
    for entry in std::fs::read_dir(places.examples()).context("no example plugins; `cargo xtask bench` builds them")? {
        let from = entry?.path();
        let id = from.file_name().context("no name")?.to_owned();
        server::copy_folder(&from, &home.plugins().join(&id))?;
        components.push(from.join(&id).with_extension("wasm"));
    }
    say(&format!("{} example plugins; the first start compiles them", components.len()));
    warm_up(&home)?;
    let (ours, hello, memory) = starts(places, &home, repeats, |running| {
        home.call_each(running.port, &example_calls(), true)?;
        server::knock(running.port, "/plugins/webhook-channel/hook/")?;
        running.resident_mib()
    })?;
    let engine = engine_memory(places, &components)?;
    let count = components.len();
    Ok(vec![
        Figure::new("start", format!("exec to ready, {count} examples"), ours, "ms")
            .beside(hello.ready)
            .target(Target::AtMost(100.0)),
        Figure::new("start", format!("memory, {count} examples, each called once"), megabytes(memory), "MB")
            .beside(megabytes(engine))
            .target(Target::AtMost(60.0))
            .details(json!({"helloMib": hello.mib, "bareEngineMib": engine})),
        Figure::new("start", "memory of the smallest HTTP server", hello.mib, "MiB"),
    ])
}

fn many(places: &Places, repeats: usize) -> Result<Vec<Figure>> {
    let component = std::fs::read(Language::Rust.component(places)?)?;
    let empty = Home::new(places)?;
    warm_up(&empty)?;
    let (_, _, alone) = starts(places, &empty, 3, |running| {
        running.settle(Some(TOKEN), "")?;
        running.resident_mib()
    })?;
    let home = Home::new(places)?;
    let mut calls = Vec::new();
    for number in 0..MANY {
        let id = format!("bench-{number}");
        guests::install(&home.plugins(), &guests::manifest(&id, json!({})), &guests::distinct(&component, number))?;
        calls.push((format!("{id}.run"), json!({})));
    }
    say(&format!("{MANY} plugins; the first start compiles them"));
    warm_up(&home)?;
    let mut idle = Vec::new();
    let (ours, hello, called) = starts(places, &home, repeats, |running| {
        running.settle(Some(TOKEN), "")?;
        idle.push(running.resident_mib()?);
        home.call_each(running.port, &calls, false)?;
        running.resident_mib()
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let each = |mib: f64| (mib - alone) * 1024.0 / MANY as f64;
    Ok(vec![
        Figure::new("start", format!("exec to ready, {MANY} plugins"), ours, "ms")
            .beside(hello.ready)
            .target(Target::AtMost(1000.0)),
        Figure::new("start", "memory without plugins", alone, "MiB").beside(hello.mib),
        Figure::new("start", "memory per further plugin, not called", each(median(&idle)), "KiB"),
        Figure::new("start", "memory per further plugin, called once", each(called), "KiB"),
    ])
}

/// Compiles, grants, and calls nothing.
fn warm_up(home: &Home) -> Result<()> {
    let running = home.start()?;
    home.grant_all(running.port)?;
    running.stop()?;
    // The second start finds everything as it will be from now on.
    home.start()?.stop()
}

/// The smallest server there is.
struct Hello {
    ready: f64,
    mib: f64,
}

/// Medians over some starts: milliseconds to ready, the same of the smallest server, and what `look` finds.
fn starts(
    places: &Places,
    home: &Home,
    repeats: usize,
    mut look: impl FnMut(&Running) -> Result<f64>,
) -> Result<(f64, Hello, f64)> {
    let (mut ours, mut hello, mut hello_mib, mut found) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeats {
        let reference = server::hello(places)?;
        hello.push(milliseconds(reference.ready_after));
        hello_mib.push(reference.resident_mib()?);
        reference.stop()?;
        let running = home.start()?;
        ours.push(milliseconds(running.ready_after));
        found.push(look(&running)?);
        running.stop()?;
    }
    Ok((median(&ours), Hello { ready: median(&hello), mib: median(&hello_mib) }, median(&found)))
}

/// Memory of a process that holds nothing but a bare engine with `components` loaded, in MiB.
fn engine_memory(places: &Places, components: &[PathBuf]) -> Result<f64> {
    let folder = places.output.join("reference");
    std::fs::create_dir_all(&folder)?;
    let compiled = bare::precompile(components, &folder)?;
    let program: &Path = &places.program("leanclaw-bench")?;
    let mut command = Command::new(program);
    command.arg("reference-engine").args(&compiled).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let said = child.stderr.take().context("no standard error")?;
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line)?;
    let mib = server::memory(child.id()).map(|memory| memory.resident_mib);
    drop(child.stdin.take());
    child.wait()?;
    mib
}
