//! A runtime over a temporary folder.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use leanclaw_egress::{Egress, FixedResolver};
use leanclaw_types::clock::SystemClock;
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::{LogLine, PluginInfo, PluginState};
use leanclaw_types::{Caller, Failure, PluginKey};
use leanclaw_wasm::{EngineSettings, Wasm};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::stored::Memory;
use crate::services::Services;
use crate::{CallContext, EgressWatch, Mode, Plugins, PluginsOptions, Recycling};

/// Instances that may live at once.
const INSTANCES: u32 = 50;

/// Longer than anything takes that is not stuck, and shorter than the limits that would end what is.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A running runtime.
pub(super) struct Bench {
    pub(super) plugins: Plugins,
    pub(super) memory: Arc<Memory>,
    pub(super) folder: Arc<TempDir>,
    pub(super) wasm: Wasm,
    stop: CancellationToken,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(super) fn caller() -> Caller {
    Caller::client("test", "operator", vec!["operator.admin".into()])
}

pub(super) fn context() -> CallContext {
    CallContext::of(caller())
}

/// An engine as the tests use it.
pub(super) fn settings() -> EngineSettings {
    EngineSettings { max_instances: INSTANCES, ..EngineSettings::default() }
}

impl Bench {
    /// A runtime over an empty folder.
    pub(super) async fn new() -> Self {
        Self::over(Arc::default(), Arc::new(tempfile::tempdir().unwrap()), settings()).await
    }

    /// A runtime over an empty folder with a plugin `witness` that gives back what it is given: whatever another plugin
    /// does, the witness has to be served.
    pub(super) async fn with_witness() -> Self {
        let bench = Self::new().await;
        bench.install(&manifest("witness"), &leanclaw_test_guests::echo().unwrap()).await;
        bench
    }

    /// A runtime over what is there. The name `metadata.test` resolves to the cloud's metadata address and `inside.test`
    /// to this machine.
    pub(super) async fn over(memory: Arc<Memory>, folder: Arc<TempDir>, settings: EngineSettings) -> Self {
        Self::made_of(memory, folder, settings, Recycling::default()).await
    }

    /// A runtime over an empty folder that replaces resident instances by these rules.
    pub(super) async fn recycling(recycling: Recycling) -> Self {
        Self::made_of(Arc::default(), Arc::new(tempfile::tempdir().unwrap()), settings(), recycling).await
    }

    async fn made_of(
        memory: Arc<Memory>,
        folder: Arc<TempDir>,
        settings: EngineSettings,
        recycling: Recycling,
    ) -> Self {
        let bench = Self::not_started(memory, folder, settings, recycling);
        bench.plugins.expect_guards().await.unwrap();
        bench.start().await;
        bench
    }

    /// Has a runtime look at its folder for the first time.
    pub(super) async fn start(&self) {
        self.plugins.start(self.stop.clone()).await;
    }

    /// A runtime that has not looked at its folder.
    pub(super) fn not_started(
        memory: Arc<Memory>,
        folder: Arc<TempDir>,
        settings: EngineSettings,
        recycling: Recycling,
    ) -> Self {
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let resolver = FixedResolver::new()
            .with("metadata.test", [address("169.254.169.254")])
            .with("inside.test", [address("127.0.0.1")]);
        let services = Services {
            kv: memory.clone(),
            grants: memory.clone(),
            settings: memory.clone(),
            secrets: memory.clone(),
            inbox: memory.clone(),
            memo: memory.clone(),
            audit: memory.clone(),
            clock: Arc::new(SystemClock),
        };
        let wasm = Wasm::new(settings).unwrap();
        let watch = EgressWatch::new(memory.clone(), Arc::new(SystemClock));
        let egress = Egress::new(Arc::new(resolver), watch.clone());
        let stop = CancellationToken::new();
        let plugins = Plugins::new(PluginsOptions {
            wasm: wasm.clone(),
            egress,
            watch,
            services,
            folder: Some(folder.path().to_path_buf()),
            mode: Mode::Serving,
            recycling,
        });
        Self { plugins, memory, folder, wasm, stop }
    }

    /// The witness answers.
    pub(super) async fn still_serving(&self) {
        assert_eq!(self.run("witness", "5").await.unwrap(), "5");
    }

    /// The witness answers, and once every plugin is taken away nothing of them is left.
    pub(super) async fn close(self) {
        self.still_serving().await;
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                std::fs::remove_dir_all(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
        self.wait("a plugin stays", || self.plugins.list().is_empty().then_some(())).await;
        self.no_instance_is_left().await;
    }

    /// Starts a call that does not end by itself, waits until `has_begun`, and lets the witness answer while it is still
    /// running. Then the call is given up.
    pub(super) async fn serves_others_during<B: Future>(&self, id: &str, params: &str, has_begun: impl FnOnce() -> B) {
        let call = |id: &str, params: &str| {
            let (plugins, name, params) = (self.plugins.clone(), format!("{id}.run"), params.to_owned());
            tokio::spawn(async move { plugins.call_method(&name, &params, context()).await })
        };
        let endless = call(id, params);
        has_begun().await;
        for _ in 0..5 {
            // On the threads of the runtime, as the endless one is.
            assert_eq!(call("witness", "5").await.unwrap().unwrap(), "5");
        }
        assert!(!endless.is_finished(), "`{id}` ended before others were served");
        endless.abort();
        assert!(endless.await.unwrap_err().is_cancelled());
    }

    /// Waits until no instance lives.
    pub(super) async fn no_instance_is_left(&self) {
        let all = usize::try_from(INSTANCES).unwrap();
        self.wait("an instance stays", || (self.wasm.free_instances() == all).then_some(())).await;
    }

    /// Waits until `look` finds something.
    pub(super) async fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        for _ in 0..3000 {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:#?} {:#?}", self.plugins.list(), self.plugins.problems());
    }

    /// Puts a plugin into the folder in one step, as an installer does.
    pub(super) fn drop_in(&self, manifest: &Value, wasm: &[u8]) {
        let id = manifest["id"].as_str().unwrap();
        let hidden = self.folder.path().join(format!(".{id}.new"));
        std::fs::create_dir_all(&hidden).unwrap();
        std::fs::write(hidden.join("leanclaw.plugin.json"), manifest.to_string()).unwrap();
        std::fs::write(hidden.join("plugin.wasm"), wasm).unwrap();
        let place = self.folder.path().join(id);
        let _ = std::fs::remove_dir_all(&place);
        std::fs::rename(hidden, place).unwrap();
    }

    /// Installs a plugin, grants all it asks for, and waits until it is ready.
    pub(super) async fn install(&self, manifest: &Value, wasm: &[u8]) -> PluginInfo {
        self.drop_in(manifest, wasm);
        let id = manifest["id"].as_str().unwrap();
        self.until(id, |info| info.state != PluginState::Loading).await;
        self.grant(id).await;
        self.until(id, |info| info.state == PluginState::Ready).await
    }

    /// Replaces an installed plugin by another version of it, grants all that it asks for, and waits until it is ready.
    pub(super) async fn replace(&self, manifest: &Value, version: &str, wasm: &[u8]) -> PluginInfo {
        let manifest = with(manifest.clone(), json!({ "version": version }));
        self.drop_in(&manifest, wasm);
        let id = manifest["id"].as_str().unwrap();
        self.until(id, |info| info.version == version).await;
        self.grant(id).await;
        self.until(id, |info| info.version == version && info.state == PluginState::Ready).await
    }

    /// Grants all that the plugin asks for.
    pub(super) async fn grant(&self, id: &str) -> PluginInfo {
        let change = GrantChange { all: true, items: vec![] };
        self.plugins.grant(&caller(), &id.parse().unwrap(), &change).await.unwrap()
    }

    /// Grants some of what the plugin asks for.
    pub(super) async fn grant_items(&self, id: &str, items: &[&str]) -> PluginInfo {
        let change = GrantChange { all: false, items: items.iter().map(|item| (*item).to_owned()).collect() };
        self.plugins.grant(&caller(), &id.parse().unwrap(), &change).await.unwrap()
    }

    /// Takes back everything but the approval itself.
    pub(super) async fn revoke(&self, id: &str) -> PluginInfo {
        let items = self.inspect(id).granted.unwrap().items().into_iter().collect();
        let change = GrantChange { all: false, items };
        self.plugins.revoke(&caller(), &id.parse().unwrap(), &change).await.unwrap().unwrap()
    }

    /// Takes back one right; gives where the plugin stands, if it is installed.
    pub(super) async fn revoke_item(&self, id: &str, item: &str) -> Option<PluginInfo> {
        let change = GrantChange { all: false, items: vec![item.to_owned()] };
        self.plugins.revoke(&caller(), &id.parse().unwrap(), &change).await.unwrap()
    }

    pub(super) fn inspect(&self, id: &str) -> PluginInfo {
        self.plugins.inspect(&id.parse().unwrap()).unwrap()
    }

    /// Puts a plugin into the folder and grants it what it asks for; gives what became of it.
    pub(super) async fn try_install(&self, manifest: &Value, wasm: &[u8]) -> PluginInfo {
        self.drop_in(manifest, wasm);
        let id = manifest["id"].as_str().unwrap();
        self.until(id, |info| info.state == PluginState::NeedsGrant).await;
        self.grant(id).await
    }

    /// Waits until the plugin is there and `done` says so.
    pub(super) async fn until(&self, id: &str, done: impl Fn(&PluginInfo) -> bool) -> PluginInfo {
        let key: PluginKey = id.parse().unwrap();
        self.wait(&format!("`{id}` never got there"), || self.plugins.inspect(&key).ok().filter(&done)).await
    }

    /// Waits until something in the folder is refused.
    pub(super) async fn until_problem(&self, part: &str) -> String {
        self.wait(&format!("nothing was refused with {part:?}"), || {
            let problems = self.plugins.problems();
            let found = problems.iter().find(|(_, reason)| reason.contains(part));
            found.map(|(path, reason)| format!("{}: {reason}", path.display()))
        })
        .await
    }

    /// Waits until what lies in the folder under `name` is refused, and gives the reason.
    pub(super) async fn until_refused(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        self.wait(&format!("`{name}` was not refused"), || {
            self.plugins.problems().into_iter().find(|(place, _)| *place == path).map(|(_, reason)| reason)
        })
        .await
    }

    /// Waits until the plugin's log has a line that contains `part`.
    pub(super) async fn until_line(&self, id: &str, part: &str) -> LogLine {
        let look = || self.lines(id).into_iter().find(|line| line.message.contains(part));
        self.wait(&format!("`{id}` never said {part:?}"), look).await
    }

    /// The plugin's log.
    pub(super) fn lines(&self, id: &str) -> Vec<LogLine> {
        self.plugins.logs(&id.parse().unwrap(), None, usize::MAX).unwrap_or_default()
    }

    /// How many audit rows of this kind there are about the plugin.
    pub(super) fn audited(&self, kind: &str, id: &str) -> usize {
        let rows = self.memory.audit.lock().unwrap();
        rows.iter().filter(|row| row.event.kind() == kind && row.event.plugin() == Some(id)).count()
    }

    pub(super) async fn run(&self, id: &str, params: &str) -> Result<String, Failure> {
        self.plugins.call_method(&format!("{id}.run"), params, context()).await
    }

    /// Calls a plugin made by [`leanclaw_test_guests::fetch`].
    pub(super) async fn fetch(&self, id: &str, url: &str) -> Result<String, Failure> {
        self.run(id, &json!(url).to_string()).await
    }
}

/// Checks the code of a failure, and that it says what to do.
#[track_caller]
pub(super) fn assert_failed(failure: &Failure, code: &str) {
    assert_eq!(failure.code, code, "{failure:?}");
    assert!(!failure.hints.is_empty(), "no hint: {failure:?}");
}

/// Checks the code of a failure that came back through the guest, which has the hints in its message.
#[track_caller]
pub(super) fn assert_told(failure: &Failure, code: &str, hint: &str) {
    assert_eq!(failure.code, code, "{failure:?}");
    let shown = format!("{}\nhint: {}", failure.message, failure.hints.join("\nhint: "));
    let found = shown.lines().any(|line| line.starts_with("hint: ") && line.contains(hint));
    assert!(found, "no hint with {hint:?}: {failure:?}");
}

/// Polls a future once.
pub(super) async fn poll_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context))).await
}

/// The manifest of a method plugin called `id` that asks for `permissions`.
pub(super) fn asking(id: &str, permissions: Value) -> Value {
    with(manifest(id), json!({ "permissions": permissions }))
}

/// The manifest of a method plugin called `id`.
pub(super) fn manifest(id: &str) -> Value {
    json!({ "id": id, "version": "1.0.0", "main": "plugin.wasm" })
}

/// `base` with further fields.
pub(super) fn with(mut base: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}

/// Set in the process that a test starts of itself.
const ALONE: &str = "LEANCLAW_TEST_ALONE";

/// Whether the test called `name` (its whole path) runs alone in its process. If not, it is run so, and has passed when
/// this returns: for what is the process's own and other tests use as well.
pub(super) fn is_alone(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let output = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{text}{}", String::from_utf8_lossy(&output.stderr));
    false
}
