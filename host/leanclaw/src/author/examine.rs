//! `leanclaw plugin check`: everything that can be said about a plugin without installing it.
//!
//! What it asks for counts as granted, in a scratch runtime whose only guest call is the one in which a component
//! describes itself.

use std::fmt::Write as _;

use anyhow::Result;
use leanclaw_plugin::{Diagnosis, Standing, schema_problem};
use leanclaw_types::manifest::{Manifest, json_schema};
use leanclaw_types::permission::Permissions;
use leanclaw_types::plugin::{MethodSpec, PluginState, ToolSpec};
use leanclaw_wasm::Digest;
use serde::Serialize;
use serde_json::Value;

use super::bundle::Bundle;
use super::scratch::Scratch;
use crate::config::Config;
use crate::config::nearest::nearest;
use crate::report::Report;

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Examination {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    /// Whether this host would run it, with everything granted that it asks for.
    pub(crate) ok: bool,
    /// Bytes of the component.
    bytes: Option<usize>,
    sha256: Option<String>,
    interfaces: Vec<Interface>,
    /// What it asks for, in the form that grants it.
    permissions: Vec<String>,
    exports: Vec<String>,
    methods: Vec<MethodSpec>,
    tools: Vec<ToolSpec>,
    channels: Vec<String>,
    /// Why it would not run, each perhaps with its hints on further lines.
    problems: Vec<String>,
    hints: Vec<String>,
}

/// One import or export.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    direction: String,
    interface: String,
    #[serde(flatten)]
    standing: Standing,
    /// Whether it is there only once an admin grants it.
    needs_grant: bool,
}

impl Examination {
    /// Looks at everything.
    pub(crate) async fn of(bundle: &Bundle, config: &Config) -> Self {
        let manifest = &bundle.manifest;
        let mut found = Self {
            id: manifest.id.to_string(),
            name: manifest.title().to_owned(),
            version: manifest.version.clone(),
            ok: false,
            bytes: None,
            sha256: None,
            interfaces: Vec::new(),
            permissions: manifest.asked().items().into_iter().collect(),
            exports: Vec::new(),
            methods: Vec::new(),
            tools: Vec::new(),
            channels: Vec::new(),
            problems: Vec::new(),
            hints: Vec::new(),
        };
        if let Some(problem) = manifest.config_schema.as_ref().and_then(schema_problem) {
            found.problems.push(format!("the manifest's configSchema is not usable: {problem}"));
        }
        found.hints.extend(misspelt(manifest));
        match found.component(bundle) {
            Ok(true) => {
                if let Err(error) = found.description(bundle, config).await {
                    found.note(&error);
                }
            }
            Ok(false) => found.problems.push("the component does not fit this host".to_owned()),
            Err(error) => found.note(&error),
        }
        found.ok = found.problems.is_empty();
        found
    }

    fn note(&mut self, error: &anyhow::Error) {
        let Report { message, causes, hints } = Report::of(error);
        self.problems.push(std::iter::once(message).chain(causes).collect::<Vec<_>>().join(": "));
        self.hints.extend(hints);
    }

    /// Reads what the component needs and offers; whether that fits.
    fn component(&mut self, bundle: &Bundle) -> Result<bool> {
        let component = bundle.component()?;
        self.bytes = Some(component.len());
        self.sha256 = Some(Digest::of(component).to_string());
        let granted: Diagnosis = bundle.diagnosis(&bundle.manifest.asked())?;
        let bare = bundle.diagnosis(&Permissions::default())?;
        self.interfaces = granted
            .rows
            .iter()
            .zip(&bare.rows)
            .map(|(row, without)| Interface {
                direction: row.direction.clone(),
                interface: row.interface.clone(),
                standing: row.standing.clone(),
                needs_grant: row.standing == Standing::Provided && without.standing != Standing::Provided,
            })
            .collect();
        self.hints.extend(granted.hints.iter().cloned());
        Ok(granted.is_loadable())
    }

    /// Compiles the component and asks it what it offers.
    async fn description(&mut self, bundle: &Bundle, config: &Config) -> Result<()> {
        // Whether the configuration has settings that fit is about this installation, not about the plugin.
        let bundle = bundle.without_settings()?;
        let scratch = Scratch::load(&bundle, config, bundle.manifest.asked()).await?;
        let info = scratch.info()?;
        if info.state == PluginState::Ready {
            self.exports = info.exports;
            self.methods = scratch.plugins().methods();
            self.tools = scratch.plugins().tools();
            self.channels = scratch.plugins().channels().into_iter().map(|(_, channel)| channel.id).collect();
        } else {
            self.problems.push(info.reason);
        }
        scratch.close().await;
        Ok(())
    }

    /// The page for people.
    pub(crate) fn page(&self) -> String {
        let mut page = format!("{} {} ({})\n", self.id, self.version, self.name);
        if let (Some(bytes), Some(sha256)) = (self.bytes, &self.sha256) {
            let _infallible = writeln!(page, "component: {}, sha256 {sha256}", shown_bytes(bytes));
        }
        let width = self.interfaces.iter().map(|row| row.interface.len()).max().unwrap_or_default();
        for row in &self.interfaces {
            let standing = shown_standing(row);
            let _infallible = writeln!(page, "  {}  {:width$}  {standing}", row.direction, row.interface);
        }
        if self.permissions.is_empty() {
            page.push_str("asks for: nothing but to be called\n");
        } else {
            page.push_str("asks for:\n");
            for item in &self.permissions {
                let _infallible = writeln!(page, "  {item}");
            }
        }
        self.offers(&mut page);
        for problem in &self.problems {
            let _infallible = writeln!(page, "problem: {problem}");
        }
        for hint in &self.hints {
            let _infallible = writeln!(page, "hint: {hint}");
        }
        page.push_str(if self.ok { "ok: this host can run it" } else { "not ok" });
        page
    }

    fn offers(&self, page: &mut String) {
        let methods = self
            .methods
            .iter()
            .map(|method| ("method", method.wire_name(), format!("{}: {}", method.scope, method.description)));
        let tools = self.tools.iter().map(|tool| ("tool", tool.name.clone(), tool.description.clone()));
        let channels = self.channels.iter().map(|channel| ("channel", channel.clone(), String::new()));
        let rows: Vec<_> = methods.chain(tools).chain(channels).collect();
        let width = rows.iter().map(|(_, name, _)| name.len()).max().unwrap_or_default();
        if !self.exports.is_empty() {
            let _infallible = writeln!(page, "offers: {}", self.exports.join(", "));
        }
        for (what, name, text) in rows {
            let text = text.lines().next().unwrap_or_default();
            let line = format!("  {what:<7}  {name:width$}  {text}");
            let _infallible = writeln!(page, "{}", line.trim_end());
        }
    }
}

/// Fields of the manifest that nobody reads and that are almost called like one that is read. OpenClaw's own fields, which
/// are kept, are not.
fn misspelt(manifest: &Manifest) -> Vec<String> {
    let schema = json_schema();
    let known: Vec<&str> = schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|fields| fields.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let meant = |given: &String| Some((given.clone(), nearest(given, known.iter().copied())?));
    let found = manifest.other.keys().filter_map(meant);
    found.map(|(given, meant)| format!("the manifest's `{given}` means nothing; is it `{meant}`?")).collect()
}

fn shown_standing(row: &Interface) -> String {
    let is_export = row.direction == "export";
    match &row.standing {
        Standing::Provided if is_export => "called by the host".to_owned(),
        Standing::Provided if row.needs_grant => "provided, once it is granted".to_owned(),
        Standing::Provided => "provided".to_owned(),
        Standing::ProvidedEmpty { reason } => format!("provided, empty: {reason}"),
        Standing::NotGranted { .. } => "not asked for in the manifest".to_owned(),
        Standing::WrongVersion { offered } => format!("wrong version (this host offers {offered})"),
        Standing::Unknown if is_export => "not called by the host".to_owned(),
        Standing::Unknown => "unknown".to_owned(),
    }
}

/// A size for people.
pub(crate) fn shown_bytes(bytes: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", value / 1024.0),
        _ => format!("{:.1} MiB", value / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::{METHOD, component, plugin};
    use super::*;
    use crate::config::{Sources, resolve};
    use leanclaw_test_guests::Guest;
    use serde_json::json;

    #[test]
    fn a_misspelt_field_is_told_from_one_of_openclaws() {
        let text =
            br#"{"id": "x", "permisions": {}, "lifecycel": "resident", "contracts": {}, "providerAuthEnvVars": {}}"#;
        let hints = misspelt(&Manifest::parse(text).unwrap());
        assert_eq!(hints.len(), 2, "{hints:?}");
        assert!(hints.iter().any(|hint| hint.contains("`permisions`") && hint.contains("`permissions`")), "{hints:?}");
    }

    async fn examined(manifest: Value, component: &[u8]) -> Examination {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("p");
        plugin(&folder, &manifest, component);
        let mut config = resolve(&Sources::of_environment([].into())).unwrap().config;
        config.data_dir = temporary.path().join("missing");
        let found = Examination::of(&Bundle::open(&folder).unwrap(), &config).await;
        assert!(!config.data_dir.exists(), "looking leaves nothing behind");
        found
    }

    /// The page without what differs from build to build.
    fn page(found: &Examination) -> String {
        let page = found.page();
        let (head, rest) = page.split_once("component: ").unwrap();
        format!("{head}component: ...\n{}", rest.split_once('\n').unwrap().1)
    }

    #[tokio::test]
    async fn a_good_plugin_is_shown_with_what_it_needs_and_offers() {
        let invoke = "(call $kv.delete (local.get $params) (local.get $params_len) (call $room))
                      (call $ok (local.get $params) (local.get $params_len))";
        let wasm = Guest::method("import kv;", invoke).build().unwrap();
        let manifest = json!({
            "id": "p", "name": "Pee", "version": "1.0.0", "main": "p.wasm", "permissions": {"kv": {"quotaBytes": 5}},
            "configSchema": {"type": "object", "required": ["url"]}
        });
        let found = examined(manifest, &wasm).await;
        let expected = "p 1.0.0 (Pee)
component: ...
  import  leanclaw:plugin/types@0.1.0   provided
  import  leanclaw:plugin/kv@0.1.0      provided, once it is granted
  import  leanclaw:plugin/call@0.1.0    provided
  export  leanclaw:plugin/method@0.1.0  called by the host
asks for:
  kv:5
offers: method
  method   p.run  operator.read: Runs.
ok: this host can run it";
        assert_eq!(page(&found), expected);
    }

    #[tokio::test]
    async fn what_a_plugin_says_of_itself_is_checked() {
        let wasm = leanclaw_test_guests::echo().unwrap();
        let manifest = |schema: Value| json!({"id": "p", "main": "p.wasm", "configSchema": schema});
        assert!(examined(manifest(json!({})), &wasm).await.ok);
        let found = examined(manifest(json!({"type": "nonsense"})), &wasm).await;
        assert!(!found.ok && found.problems[0].contains("configSchema"), "{}", found.page());
        let other = json!({"id": "p", "main": "p.wasm", "contracts": {"tools": ["greet"]}});
        let found = examined(other, &wasm).await;
        assert!(!found.ok && found.problems[0].contains("contracts.tools"), "{}", found.page());
        let trap = Guest::new("export method;").build().unwrap();
        let found = examined(manifest(json!({})), &trap).await;
        assert!(!found.ok && found.problems[0].contains("describing itself"), "{}", found.page());
    }

    #[tokio::test]
    async fn a_plugin_that_does_not_fit_is_shown_with_what_to_do() {
        let imports =
            ["leanclaw:plugin/kv@0.1.0", "leanclaw:plugin/inbox@0.1.0", "leanclaw:plugin/log@0.9.0", "wasi:nn/x@0.2.0"];
        let wasm = component(&imports, &[METHOD, "own:package/extra@1.0.0"]);
        let manifest = json!({"id": "p", "main": "p.wasm", "permissions": {"inbox": true}});
        let found = examined(manifest, &wasm).await;
        let expected = r#"p 0.0.0 (p)
component: ...
  import  leanclaw:plugin/kv@0.1.0      not asked for in the manifest
  import  leanclaw:plugin/inbox@0.1.0   provided, once it is granted
  import  leanclaw:plugin/log@0.9.0     wrong version (this host offers 0.1.0)
  import  wasi:nn/x@0.2.0               unknown
  export  leanclaw:plugin/method@0.1.0  called by the host
  export  own:package/extra@1.0.0       not called by the host
asks for:
  inbox
problem: the component does not fit this host
hint: `leanclaw:plugin/kv@0.1.0` is imported but not asked for: add "kv": {"quotaBytes": 1048576} to "permissions" in the manifest, then leanclaw plugin grant p --all
hint: `leanclaw:plugin/log@0.9.0`: this host offers version 0.1.0; build against its `wit` folder (leanclaw plugin new shows where)
hint: `wasi:nn/x@0.2.0` is nothing the host offers; it has the interfaces in `wit` and WASI 0.2, not WASI 0.3 (preview 3)
not ok"#;
        assert_eq!(page(&found), expected);
    }
}
