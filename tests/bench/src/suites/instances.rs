//! Calls through the plugin runtime against the same on a bare engine, in one process and on one task.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use leanclaw_bench::numbers::{Samples, median};
use leanclaw_types::Caller;
use serde_json::json;

use crate::bare;
use crate::guests::{self, Language};
use crate::options::Places;
use crate::report::{Figure, Target};
use crate::runtime::Runtime;

const RESIDENT: &str = "bench-resident";

/// How much is measured.
struct Amount {
    rounds: usize,
    per_round: usize,
}

/// Fresh instances in every language.
pub(crate) fn fresh(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for language in Language::ALL {
        let component = std::fs::read(language.component(places)?)?;
        let per_round = if language == Language::Rust { 500 } else { 50 };
        let amount = Amount { rounds: if quick { 10 } else { 60 }, per_round };
        let both = on_a_worker(compare_fresh(places.output.join("cache"), language, component, amount))?;
        let name = format!("{} instance + call + drop", language.name());
        let target = Target::AtMost(2.0);
        figures.push(both.figure("fresh", name).compared(both.ratio(), "x reference").target(target));
        if language == Language::Rust {
            let value = both.ours.spread().median_us;
            figures.push(Figure::new("fresh", "Rust, aim", value, "us").target(Target::AtMost(20.0)));
        }
    }
    Ok(figures)
}

/// A resident instance, one caller.
pub(crate) fn resident(places: &Places, quick: bool) -> Result<Vec<Figure>> {
    let component = std::fs::read(Language::Rust.component(places)?)?;
    let amount = Amount { rounds: if quick { 20 } else { 100 }, per_round: 2000 };
    let both = on_a_worker(compare_resident(places.output.join("cache"), component, amount))?;
    let over = both.difference();
    let figure = both.figure("resident", "call on a live instance".to_owned());
    Ok(vec![figure.compared(over, "us over reference").target(Target::AtMost(1.0))])
}

/// Times of both sides.
#[derive(Default)]
struct Both {
    ours: Samples,
    bare: Samples,
    /// Medians per round: ours, bare.
    rounds: Vec<(f64, f64)>,
}

impl Both {
    fn add(&mut self, ours: Samples, bare: Samples) {
        self.rounds.push((ours.spread().median_us, bare.spread().median_us));
        self.ours.append(ours);
        self.bare.append(bare);
    }

    fn ratio(&self) -> f64 {
        median(&self.rounds.iter().map(|(ours, bare)| ours / bare).collect::<Vec<_>>())
    }

    fn difference(&self) -> f64 {
        median(&self.rounds.iter().map(|(ours, bare)| ours - bare).collect::<Vec<_>>())
    }

    fn figure(&self, suite: &'static str, name: String) -> Figure {
        let (ours, bare) = (self.ours.spread(), self.bare.spread());
        let name = format!("{name} (p99 {:.1} us, reference {:.1} us)", ours.p99_us, bare.p99_us);
        let details = json!({"ours": ours, "reference": bare, "rounds": self.rounds.len()});
        Figure::new(suite, name, ours.median_us, "us").beside(bare.median_us).details(details)
    }
}

/// Runs `work` where the program runs calls: on a worker thread of a runtime of its kind.
fn on_a_worker<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { tokio::spawn(work).await? })
}

async fn compare_fresh(
    cache: std::path::PathBuf,
    language: Language,
    component: Vec<u8>,
    amount: Amount,
) -> Result<Both> {
    let limits = json!({"limits": {"memoryMib": 256}});
    let manifest = guests::manifest(language.id(), limits);
    let runtime = Runtime::new(&cache, |folder| guests::install(folder, &manifest, &component)).await?;
    let guest = reference(&runtime, &component)?;
    in_turns(&runtime, language.id(), Bare::Cycle(guest), amount).await
}

async fn compare_resident(cache: std::path::PathBuf, component: Vec<u8>, amount: Amount) -> Result<Both> {
    let manifest = guests::manifest(RESIDENT, json!({"lifecycle": "resident"}));
    let runtime = Runtime::new(&cache, |folder| guests::install(folder, &manifest, &component)).await?;
    let guest = reference(&runtime, &runtime.component(RESIDENT)?)?;
    let live = guest.live().await?;
    in_turns(&runtime, RESIDENT, Bare::Live(live), amount).await
}

/// The bare side: a cycle of its own for each call, or one instance that stays.
enum Bare {
    Cycle(bare::Guest),
    Live(bare::Live),
}

impl Bare {
    async fn call(&mut self) -> Result<String> {
        match self {
            Self::Cycle(guest) => guest.cycle().await,
            Self::Live(live) => live.call().await,
        }
    }
}

/// Times both sides after one call each, each first in every other round.
async fn in_turns(runtime: &Runtime, id: &str, mut bare_side: Bare, amount: Amount) -> Result<Both> {
    let method = format!("{id}.run");
    let caller = Arc::new(Caller::client("bench", "operator", vec!["operator.read".to_owned()]));
    expect_null(&bare_side.call().await?)?;
    expect_null(&runtime.call(&method, &caller).await?)?;
    let mut both = Both::default();
    for round in 0..amount.rounds {
        let (mut ours, mut bare) = (Samples::default(), Samples::default());
        for turn in 0..2 {
            let is_ours = (round + turn) % 2 == 0;
            for _ in 0..amount.per_round {
                let began = Instant::now();
                if is_ours {
                    runtime.call(&method, &caller).await?;
                    ours.push(began.elapsed());
                } else {
                    bare_side.call().await?;
                    bare.push(began.elapsed());
                }
            }
        }
        both.add(ours, bare);
    }
    Ok(both)
}

/// The bare side, after checking that it compiles exactly as the measured engine does.
fn reference(runtime: &Runtime, component: &[u8]) -> Result<bare::Guest> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let engine = bare::engine()?;
    let hash = |engine: &wasmtime::Engine| {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    };
    if hash(&engine) != hash(runtime.wasm.engine()) {
        bail!("the reference engine (bare.rs) is configured otherwise than the program's (host/wasm)");
    }
    bare::Guest::new(&engine, component).context("the reference does not take the component")
}

fn expect_null(answer: &str) -> Result<()> {
    if answer != "null" {
        bail!("a guest that does nothing answered {answer}");
    }
    Ok(())
}
