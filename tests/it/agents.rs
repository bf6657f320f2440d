//! Agents as people meet them: the real program, the real agent in its sandbox, and a model that says what a script says.

mod answers;
mod model;
mod stopped;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{Place, Program};
use model::Model;

/// A program with a model, and files in its agent's workspace.
struct Setup {
    place: Place,
    model: Model,
    program: Program,
}

impl Setup {
    async fn start() -> Self {
        let (place, model) = (Place::empty(), Model::start().await);
        place.add_compiled(compiled().await);
        for (name, text) in [("notes.md", "Buy milk.\n"), ("plan.txt", "Ship on Friday.\n")] {
            let workspace = workspace(&place);
            fs::create_dir_all(&workspace).unwrap();
            fs::write(workspace.join(name), text).unwrap();
        }
        let program = start(&place, &model).await;
        Self { place, model, program }
    }
}

fn workspace(place: &Place) -> PathBuf {
    place.data().join("agents/main/workspace")
}

async fn start(place: &Place, model: &Model) -> Program {
    let (url, component) = (model.url(), component());
    place
        .start_with(move |command| {
            command.env("LEANCLAW_ANTHROPIC_API_KEY", model::KEY).env("LEANCLAW_ANTHROPIC_BASE_URL", url);
            command.env("LEANCLAW_AGENT", component);
        })
        .await
}

/// The agent's compiled component, made once by a program of its own. It stays until the process of the tests ends.
async fn compiled() -> &'static Path {
    static MADE: tokio::sync::OnceCell<Place> = tokio::sync::OnceCell::const_new();
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    let make = async || {
        let (place, model) = (Place::empty(), Model::start().await);
        let program = start(&place, &model).await;
        let answered = place.run(&["chat", "hello"]).await.ok();
        assert!(answered.contains("You said: hello"), "{answered}");
        program.stop().await;
        place
    };
    let place = MADE.get_or_init(make).await;
    CACHE.get_or_init(|| place.data().join("cache"))
}

/// The agent's component, which `cargo xtask test` builds.
fn component() -> PathBuf {
    let named = std::env::var_os("LEANCLAW_AGENT").map(PathBuf::from);
    let path = named
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/agent/leanclaw-agent.wasm")));
    assert!(path.is_file(), "{} is missing: `cargo xtask test` builds it", path.display());
    path
}
