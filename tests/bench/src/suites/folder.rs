//! The plugin folder of a running gateway: from the rename that puts a plugin there until its method answers, the same for
//! its next version, and from its removal until nobody answers.
//!
//! Every version is another component, so the time holds a compilation. The reference is what cannot be left out: the same
//! component compiled, linked, instantiated and called on a bare engine that watches nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use leanclaw_bench::numbers::{median, milliseconds};
use leanclaw_bench::wire::Wire;
use serde_json::{Value, json};
use wasmtime::Engine;

use crate::bare;
use crate::guests::{self, Language};
use crate::options::Places;
use crate::report::{Figure, Target};
use crate::server::{Home, TOKEN, in_a_runtime};

const PLUGIN: &str = "bench-hot";
const METHOD: &str = "bench-hot.run";
/// What has not happened after this never will.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks; a part of what is measured.
const LOOK: Duration = Duration::from_millis(2);
/// Between two changes, so that one is not measured with the end of another.
const REST: Duration = Duration::from_millis(300);
/// "Live, swapped or gone within a second."
const MOST_MS: f64 = 1000.0;

/// A plugin folder, and versions of a plugin for it.
struct Folder {
    component: Vec<u8>,
    versions: u32,
    staged: PathBuf,
    place: PathBuf,
    wire: Wire,
}

/// Milliseconds of every round.
#[derive(Default)]
struct Times {
    dropped: Vec<f64>,
    swapped: Vec<f64>,
    removed: Vec<f64>,
    bare: Vec<f64>,
}

pub(crate) fn run(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let component = std::fs::read(Language::Rust.component(places)?)?;
    let home = Home::new(places)?;
    let server = home.start()?;
    let times = in_a_runtime(measure(&home, server.port, component, if quick { 5 } else { 20 }))?;
    server.stop()?;
    let figure = |name: &str, measured: &[f64]| {
        let longest = measured.iter().copied().fold(0.0, f64::max);
        Figure::new("folder", name, median(measured), "ms")
            .target(Target::AtMost(MOST_MS))
            .details(json!({"longestMs": longest, "rounds": measured.len()}))
    };
    let bare = median(&times.bare);
    Ok(vec![
        figure("from rename to answer, a new plugin", &times.dropped).beside(bare),
        figure("from rename to answer, its next version", &times.swapped).beside(bare),
        figure("from removal to no answer", &times.removed),
    ])
}

async fn measure(home: &Home, port: u16, component: Vec<u8>, rounds: usize) -> Result<Times> {
    let place = home.plugins().join(format!("{PLUGIN}.wasm"));
    let staged = home.plugins().with_file_name("staged.wasm");
    let wire = Wire::connect(port, TOKEN).await?;
    let mut folder = Folder { component, versions: 0, staged, place, wire };
    // The rights of an id outlast its plugin, so only the first one has to wait for an admin.
    folder.put("needs-grant").await?;
    folder.wire.call("plugins.grant", &json!({"pluginId": PLUGIN, "all": true})).await?;
    folder.removed().await?;
    let engine = bare::engine()?;
    let mut times = Times::default();
    for _ in 0..rounds {
        times.bare.push(folder.bare(&engine).await?);
        times.dropped.push(folder.answers().await?);
        times.swapped.push(folder.answers().await?);
        times.removed.push(folder.removed().await?);
    }
    Ok(times)
}

impl Folder {
    /// The next version: one file that carries its manifest.
    fn next(&mut self) -> (String, Vec<u8>) {
        self.versions += 1;
        let version = format!("1.0.{}", self.versions);
        let manifest = json!({"id": PLUGIN, "version": version});
        (version, guests::with_section(&self.component, "leanclaw:manifest", &manifest.to_string()))
    }

    /// Moves the next version into the folder and waits until it is in this state: when it was moved.
    async fn put(&mut self, state: &str) -> Result<Instant> {
        let (version, bytes) = self.next();
        std::fs::write(&self.staged, bytes)?;
        tokio::time::sleep(REST).await;
        let moved = Instant::now();
        std::fs::rename(&self.staged, &self.place)?;
        loop {
            let listed = self.wire.call("plugins.list", &json!({"leanclaw": true})).await?;
            let found = listed.pointer("/plugins/0/leanclaw").unwrap_or(&Value::Null);
            let is = |name: &str, wanted: &str| found.get(name).and_then(Value::as_str) == Some(wanted);
            if is("version", &version) && is("state", state) {
                return Ok(moved);
            }
            if moved.elapsed() > PATIENCE {
                bail!("version {version} is not {state} after {PATIENCE:?}: {found}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Milliseconds until the method of the next version answers.
    async fn answers(&mut self) -> Result<f64> {
        let moved = self.put("ready").await?;
        self.wire.call(METHOD, &json!({})).await?;
        Ok(milliseconds(moved.elapsed()))
    }

    /// Takes the plugin away: milliseconds until its method is no more.
    async fn removed(&mut self) -> Result<f64> {
        tokio::time::sleep(REST).await;
        let removed = Instant::now();
        std::fs::remove_file(&self.place)?;
        while self.wire.call(METHOD, &json!({})).await.is_ok() {
            if removed.elapsed() > PATIENCE {
                bail!("the plugin answers {PATIENCE:?} after its removal");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(milliseconds(removed.elapsed()))
    }

    /// Milliseconds from the bytes of the next version to its answer on a bare engine.
    async fn bare(&mut self, engine: &Engine) -> Result<f64> {
        let (_, bytes) = self.next();
        let began = Instant::now();
        bare::Guest::new(engine, &bytes)?.cycle().await?;
        Ok(milliseconds(began.elapsed()))
    }
}
