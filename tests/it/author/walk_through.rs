//! The README's way from `plugin new` to a granted, running plugin that is swapped while it runs, in every language, with
//! the commands that a person types; and the other kinds of plugin that `plugin new` makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::installed;
use crate::support::{Place, Program, Run, eventually, eventually_within, run_at_terminal, text};

/// How long a build and the swap after it may take on a machine that has much else to do.
const BUILD_PATIENCE: Duration = Duration::from_secs(600);

/// A language, and what of the README differs in it.
pub(super) struct Walk {
    pub(super) language: &'static str,
    /// Runs the builds.
    pub(super) program: &'static str,
    /// What makes components, unless the program does.
    pub(super) tool: Option<&'static str>,
    /// The arguments of `leanclaw call`.
    call: [&'static str; 2],
    /// Where the greeting is in the answer.
    greeting: &'static str,
    /// The file that is edited.
    pub(super) source: &'static str,
    /// A part of it that says hello, and one that says something else.
    edit: [&'static str; 2],
}

pub(super) const RUST: Walk = Walk {
    language: "rust",
    program: "cargo",
    tool: None,
    call: ["hello.hello", r#"{"name": "Ada"}"#],
    greeting: "/text",
    source: "src/lib.rs",
    edit: [r#"greeting: "Hello""#, r#"greeting: "Servus""#],
};
pub(super) const JAVASCRIPT: Walk = Walk {
    language: "js",
    program: "node",
    tool: Some("componentize-qjs"),
    call: ["tools.invoke", r#"{"name": "hello_greet", "args": {"name": "Ada"}}"#],
    greeting: "/output/details/greeting",
    source: "plugin.js",
    edit: ["Hello, ", "Servus, "],
};
pub(super) const PYTHON: Walk =
    Walk { language: "python", program: "python3", tool: Some("componentize-py"), source: "plugin.py", ..JAVASCRIPT };

/// The target folder of this repository's build.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

fn tools() -> PathBuf {
    std::env::var_os("LEANCLAW_TOOLS").map_or_else(|| target().join("tools/bin"), PathBuf::from)
}

/// Lets a command find compilers and tools, which live in the home of whoever runs the tests.
fn with_tools(command: &mut Command) {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup"), ("PYENV_ROOT", ".pyenv")] {
        command.env(name, std::env::var_os(name).unwrap_or_else(|| home.join(folder).into()));
    }
    for name in ["RUSTUP_TOOLCHAIN", "RUSTC"] {
        std::env::var_os(name).map(|value| command.env(name, value));
    }
    // The cargo that runs these tests has the target that plugins are built for, wherever it comes from.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo = std::env::var_os("CARGO").and_then(|cargo| Some(PathBuf::from(cargo).parent()?.to_owned()));
    command.env("PATH", std::env::join_paths(cargo.into_iter().chain(std::env::split_paths(&path))).unwrap());
    command.env("LEANCLAW_TOOLS", tools());
    command.env("CARGO_TARGET_DIR", target().join("tmp/author-rust"));
}

/// A test that cannot run must not count as one that passed.
pub(super) fn needs(program: &str, tool: Option<&str>) {
    let has_program = Command::new(program).arg("--version").output().is_ok_and(|said| said.status.success());
    assert!(has_program, "`{program}` is needed to build plugins in its language: install it");
    if let Some(tool) = tool {
        let path = tools().join(tool);
        assert!(path.exists(), "{} is missing: `cargo xtask setup` makes it", path.display());
    }
}

/// Runs a command in `folder`, with compilers, for as long as it takes: a first build compiles an SDK.
pub(super) async fn in_folder(place: &Place, folder: &Path, arguments: &[&str]) -> Run {
    let mut command = place.command(arguments);
    with_tools(&mut command);
    command.current_dir(folder);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { status: output.status, out: text(&output.stdout), err: text(&output.stderr) }
}

/// Makes a new plugin.
pub(super) async fn new(place: &Place, name: &str, options: &[&str]) -> PathBuf {
    let arguments: Vec<&str> = [&["plugin", "new", name], options].concat();
    let said = place.run(&arguments).await.ok();
    assert!(said.contains("leanclaw plugin build"), "it says what comes next: {said}");
    let folder = place.work().join(name);
    let refused = place.run(&arguments).await.failed(1);
    assert!(refused.contains("nothing is ever overwritten") && refused.contains("--dir"), "{refused}");
    // Versions that are built already; cargo takes out what the plugin does not use.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk/rust/tests/guests/Cargo.lock");
    if folder.join("Cargo.toml").exists() {
        fs::copy(lock, folder.join("Cargo.lock")).unwrap();
    }
    folder
}

/// Builds and checks it; the SHA-256 of its component.
pub(super) async fn build(place: &Place, folder: &Path, name: &str) -> Value {
    let built = in_folder(place, folder, &["plugin", "build", "--json"]).await.json();
    assert_eq!(built["id"], name);
    assert!(Path::new(text(&built["file"])).starts_with(folder.canonicalize().unwrap().join("dist")));
    let found = in_folder(place, folder, &["plugin", "check", "--json"]).await.json();
    assert_eq!((&found["ok"], &found["sha256"]), (&json!(true), &built["sha256"]), "{found}");
    built["sha256"].clone()
}

/// A plugin of another kind: made, built, installed without rights, granted through the gateway.
async fn from_new_to_ready(place: &Place, program: &Program, name: &str, options: &[&str]) {
    let folder = new(place, name, options).await;
    let sha256 = build(place, &folder, name).await;
    let done = in_folder(place, &folder, &["plugin", "install", "--json"]).await.json();
    assert_eq!((&done["action"], &done["plugin"]["state"]), (&json!("installed"), &json!("needs-grant")), "{done}");
    assert_eq!(done["sha256"], sha256);
    assert_eq!(program.grant_all(name).await["state"], "ready");
}

/// Installs it with all it asks for, as a person does who first says no.
async fn install_at_a_terminal(place: &Place, folder: &Path) {
    let command = || {
        let mut command = place.command(&["plugin", "install", ".", "--grant-all"]);
        command.current_dir(folder);
        command
    };
    const QUESTION: &str = "Install it and grant that? [y/N] ";
    let (status, said) = run_at_terminal(command(), QUESTION, "\n").await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("nothing was installed") && installed(place).is_empty(), "{said}");
    let (status, said) = run_at_terminal(command(), QUESTION, "y\n").await;
    assert!(status.success() && said.contains("hello is ready"), "{said}");
}

impl Walk {
    async fn greeting(&self, place: &Place) -> String {
        let answer = place.run(&["call", self.call[0], self.call[1]]).await.json();
        text(answer.pointer(self.greeting).unwrap_or_else(|| panic!("{answer}"))).to_owned()
    }

    async fn until_greeted(&self, place: &Place, greeting: &str) {
        eventually_within(BUILD_PATIENCE, greeting, async || {
            let said = self.greeting(place).await;
            if said == greeting { Ok(()) } else { Err(said) }
        })
        .await;
    }

    /// Every step of the README, up to a plugin that runs; its folder.
    async fn install(&self, place: &Place) -> PathBuf {
        needs(self.program, self.tool);
        let folder = new(place, "hello", &["--lang", self.language]).await;
        build(place, &folder, "hello").await;
        install_at_a_terminal(place, &folder).await;
        assert_eq!(self.greeting(place).await, "Hello, Ada!");
        folder
    }

    /// The source as it was made and as it is after an edit.
    fn edit(&self, folder: &Path) -> (String, String) {
        let first = fs::read_to_string(folder.join(self.source)).unwrap();
        let [hello, other] = self.edit;
        let edited = first.replacen(hello, other, 1);
        assert_ne!(first, edited, "the template says {hello}");
        (first, edited)
    }
}

/// A command that runs until it is told to end.
struct Dev(Child, PathBuf);

impl Dev {
    fn start(place: &Place, folder: &Path, more: &[&str]) -> Self {
        let log = place.work().join("dev.log");
        let mut command = place.command(&[&["plugin", "dev"], more].concat());
        with_tools(&mut command);
        let out = fs::File::create(&log).unwrap();
        // With --json only what is on standard output counts.
        let err = if more.is_empty() { out.try_clone().unwrap().into() } else { Stdio::inherit() };
        command.current_dir(folder).stdout(out).stderr(err).stdin(Stdio::null());
        Self(command.spawn().unwrap(), log)
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.1).unwrap()
    }

    async fn says(&self, what: &str) {
        let look = async || {
            let said = self.said();
            if said.contains(what) { Ok(()) } else { Err(said) }
        };
        eventually_within(BUILD_PATIENCE, what, look).await;
    }

    async fn end(mut self) {
        let process = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &process]).status().unwrap().success());
        let status = eventually("dev ends", async || self.0.try_wait().unwrap()).await;
        assert!(status.success(), "{status}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn javascript() {
    let place = Place::empty();
    let program = place.start().await;
    let folder = JAVASCRIPT.install(&place).await;
    let dev = Dev::start(&place, &folder, &[]);
    dev.says("hello is ready").await;
    dev.says("Watching").await;
    let (first, edited) = JAVASCRIPT.edit(&folder);
    let source = folder.join(JAVASCRIPT.source);
    fs::write(&source, edited).unwrap();
    JAVASCRIPT.until_greeted(&place, "Servus, Ada!").await;

    fs::write(&source, "this is no JavaScript").unwrap();
    dev.says("error: the build command failed").await;
    assert_eq!(JAVASCRIPT.greeting(&place).await, "Servus, Ada!", "the version before goes on");
    let context = first.replace("Hello, ", "Ahoy, ").replace("handler({ name }) {", "handler({ name }, context) {");
    fs::write(&source, context).unwrap();
    JAVASCRIPT.until_greeted(&place, "Ahoy, Ada!").await;
    dev.end().await;

    from_new_to_ready(&place, &program, "meth", &["--lang", "js", "--kind", "method"]).await;
    let answer = place.run(&["call", "meth.greet", r#"{"name": "Ada"}"#]).await.json();
    assert_eq!(answer["greeting"], "Hello, Ada!");
    program.stop().await;
    assert_eq!(installed(&place), ["hello", "meth"], "nothing is left behind");
}

#[tokio::test]
async fn rust() {
    let place = Place::empty();
    let program = place.start().await;
    let folder = RUST.install(&place).await;
    let dev = Dev::start(&place, &folder, &[]);
    dev.says("Watching").await;
    let (_, edited) = RUST.edit(&folder);
    fs::write(folder.join(RUST.source), edited).unwrap();
    RUST.until_greeted(&place, "Servus, Ada!").await;
    dev.says("Changed: src/lib.rs").await;
    dev.end().await;

    from_new_to_ready(&place, &program, "rs-two", &["--lang", "rust", "--kind", "skill"]).await;
    let tool = r#"{"name": "rs-two_greet", "args": {"name": "Ada"}}"#;
    let answer = place.run(&["call", "tools.invoke", tool]).await.json();
    assert_eq!(answer["output"]["details"]["greeting"], "Hello, Ada!", "{answer}");
    from_new_to_ready(&place, &program, "rs-three", &["--lang", "rust", "--kind", "channel"]).await;
    program.stop().await;
}

/// And what a program that runs `plugin dev` reads.
#[tokio::test]
async fn python() {
    let place = Place::empty();
    let program = place.start().await;
    let folder = PYTHON.install(&place).await;
    let dev = Dev::start(&place, &folder, &["--json"]);
    dev.says(r#"{"event":"watching"}"#).await;
    let (_, edited) = PYTHON.edit(&folder);
    fs::write(folder.join(PYTHON.source), edited).unwrap();
    PYTHON.until_greeted(&place, "Servus, Ada!").await;
    dev.says(r#"{"event":"changed","path":"plugin.py"}"#).await;
    eventually("it is at rest again", async || (dev.said().matches("watching").count() == 2).then_some(())).await;
    let lines: Vec<Value> = dev.said().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &'static str| lines.iter().filter(move |line| line["event"] == event);
    assert_eq!((of("built").count(), of("changed").count(), of("failed").count()), (2, 1, 0), "{lines:?}");
    assert!(of("built").all(|line| line["id"] == "hello" && line["sha256"].is_string()), "{lines:?}");
    assert!(of("state").any(|line| line["plugin"]["state"] == "ready"), "{lines:?}");
    dev.end().await;
    program.stop().await;
}
