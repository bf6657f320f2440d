//! The configuration file, as the gateway and the command line change it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use async_trait::async_trait;
use leanclaw_gateway::{
    CheckedSettings, ControlUi, LiveConfig, OutrankedKey, Reload, Settings, SettingsIssue, is_or_is_below,
};
use leanclaw_plugin::Plugins;
use leanclaw_types::{Caller, Failure, PluginId};
use serde_json::{Map, Value, json};

use super::plugins::SharedPlugins;
use crate::config::{
    Config, Effective, FileText, Flags, PluginsConfig, Problem, Source, Sources, json5_tree, resolve, schema, variables,
};
use crate::{report, telemetry};

/// Keys that count as soon as they are stored.
const HOT: [&str; 12] = [
    "logging.level",
    "plugins.enabled",
    "plugins.allow",
    "plugins.deny",
    "plugins.entries",
    "gateway.trustedProxies",
    "gateway.rateLimits",
    "gateway.nodes.allowCommands",
    "gateway.nodes.denyCommands",
    "gateway.controlUi.allowedOrigins",
    "gateway.controlUi.root",
    "gateway.controlUi.basePath",
];

/// Keys that are read at the start and have no variable.
const READ_AT_START: [&str; 3] = ["gateway.auth.role", "gateway.auth.users", "hooks"];

/// The part of the configuration that a running gateway is told anew.
pub(crate) fn live(config: &Config) -> LiveConfig {
    let gateway = &config.gateway;
    LiveConfig {
        trusted_proxies: gateway.trusted_proxies.clone(),
        allowed_origins: gateway.allowed_origins.clone(),
        control_ui: ControlUi {
            root: gateway.control_ui.root.clone(),
            base_path: gateway.control_ui.base_path.clone(),
        },
        rates: gateway.access.rates.clone(),
        node_commands: gateway.access.node_commands.clone(),
    }
}

/// The configuration file of this process.
pub(crate) struct SettingsFile {
    sources: Sources,
    /// What changes with the file while the program runs.
    serving: Option<(Plugins, SharedPlugins)>,
}

impl SettingsFile {
    /// The file that `sources` names, for a process that only reads and writes it.
    pub(crate) fn new(sources: Sources) -> Self {
        Self { sources, serving: None }
    }

    /// The same, for a process whose plugins go by it.
    pub(crate) fn serving(self, plugins: Plugins, section: SharedPlugins) -> Self {
        Self { serving: Some((plugins, section)), ..self }
    }

    fn file(&self) -> &Path {
        &self.sources.config_file.0
    }

    /// The sources as if the file said this.
    fn with(&self, text: &str) -> Sources {
        let mut sources = self.sources.clone();
        sources.config_file.1 = FileText::Text { text: text.to_owned(), others_can_read: false };
        sources
    }

    /// What is wrong with single values of the file, also where a flag or the environment says something else today.
    fn wrong_values(&self, text: &str) -> Vec<Problem> {
        let mut alone = self.with(text);
        alone.flags = Flags::default();
        alone.environment.clear();
        alone.not_utf8.clear();
        alone.dotenv.1 = FileText::Missing;
        let problems = resolve(&alone).err().map(|error| error.problems).unwrap_or_default();
        let of_file = |problem: &Problem| matches!(problem, Problem::Invalid { source: Source::File { .. }, .. });
        problems.into_iter().filter(of_file).collect()
    }
}

#[async_trait]
impl Settings for SettingsFile {
    fn path(&self) -> String {
        self.file().display().to_string()
    }

    fn load(&self) -> Result<Option<String>, Failure> {
        match FileText::read(self.file()) {
            FileText::Missing => Ok(None),
            FileText::Text { text, .. } => Ok(Some(text)),
            FileText::Unreadable(why) => Err(Failure::unavailable(format!("{} cannot be read: {why}", self.path()))
                .hint("make it readable for the user that LeanClaw runs as")),
        }
    }

    fn check(&self, text: &str) -> CheckedSettings {
        let parsed = match json5_tree::parse(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                let message =
                    format!("JSON5 syntax at line {}, column {}: {}", error.line, error.column, error.message);
                let issues = vec![SettingsIssue { path: String::new(), message: message.clone() }];
                return CheckedSettings {
                    parsed: json!({}),
                    resolved: json!({}),
                    syntax: Some(message),
                    issues,
                    ..CheckedSettings::default()
                };
            }
        };
        let (resolved, issues, warnings, outranked) = match resolve(&self.with(text)) {
            Ok(resolution) => {
                let effective = &resolution.effective;
                (overlaid(&parsed, effective), Vec::new(), resolution.warnings, outranked(effective))
            }
            Err(error) => (parsed.clone(), error.problems.iter().map(issue).collect(), Vec::new(), Vec::new()),
        };
        let wrong = self.wrong_values(text);
        let covered = wrong.iter().map(issue).filter(|issue| !issues.contains(issue)).collect();
        let warning = |message: String| SettingsIssue { path: String::new(), message };
        CheckedSettings {
            parsed,
            resolved,
            syntax: None,
            issues,
            covered,
            warnings: warnings.into_iter().map(warning).collect(),
            outranked,
        }
    }

    fn store(&self, text: &str) -> Result<(), Failure> {
        let path = self.file();
        if !path.is_absolute() {
            return Err(Failure::unavailable(
                "there is no home directory, so there is no place for a configuration file",
            )
            .hint("start LeanClaw with --config FILE"));
        }
        replace(path, text).map_err(|error| {
            let todo = report::about_room(error.kind())
                .unwrap_or("make the folder writable for the user that LeanClaw runs as");
            Failure::unavailable(format!("{} cannot be written: {error}", path.display()))
                .hint(format!("nothing was changed; {todo}"))
        })
    }

    fn go_by(&self, text: &str) -> Vec<String> {
        let (Some((_, section)), Ok(resolution)) = (&self.serving, resolve(&self.with(text))) else {
            return Vec::new();
        };
        let Config { log, plugins, .. } = resolution.config;
        let level = telemetry::set_level(log.level).then(|| "logging.level".to_owned());
        let mut section = section.write().unwrap_or_else(PoisonError::into_inner);
        // The folder is watched where it was; another one needs a start.
        let dir = section.dir.clone();
        let before = std::mem::replace(&mut *section, PluginsConfig { dir, ..plugins });
        level.into_iter().chain(section.differences(&before)).collect()
    }

    async fn apply(&self, caller: &Caller, keys: &[String]) {
        let Some((plugins, _)) = &self.serving else { return };
        let of_plugins = keys.iter().filter(|key| key.starts_with("plugins."));
        let ids: Vec<Option<PluginId>> = of_plugins.map(|key| plugin_of(key)).collect();
        // Of a key that is about no one plugin, all are read again.
        let wanted = if ids.contains(&None) { vec![None] } else { ids };
        for id in &wanted {
            // Settings may be there before their plugin is, and then there is nothing to be read.
            let _ = plugins.reload(caller, id.as_ref()).await;
        }
    }

    fn live(&self, text: &str) -> Option<LiveConfig> {
        resolve(&self.with(text)).ok().map(|resolution| live(&resolution.config))
    }

    fn is_secret(&self, key: &str) -> bool {
        schema::is_secret(key)
    }

    fn reload(&self, key: &str) -> Reload {
        if HOT.iter().any(|hot| is_or_is_below(key, hot)) {
            return Reload::Hot;
        }
        let known = variables::ALL.iter().flat_map(|variable| variable.keys);
        if known.chain(&READ_AT_START).any(|known| is_or_is_below(key, known) || is_or_is_below(known, key)) {
            return Reload::Restart;
        }
        Reload::None
    }

    fn schema(&self) -> (Value, Map<String, Value>) {
        (schema::schema(), schema::hints())
    }
}

/// The plugin a key below `plugins.entries` is about.
fn plugin_of(key: &str) -> Option<PluginId> {
    let name = key.strip_prefix("plugins.entries.")?.split('.').next()?;
    name.parse().ok()
}

/// The file's content with what flags, environment and defaults say laid over it.
fn overlaid(parsed: &Value, effective: &[Effective]) -> Value {
    let mut resolved = parsed.clone();
    for setting in effective {
        let (Some(value), Some(key)) = (&setting.value, setting.variable.keys.first()) else { continue };
        if !matches!(setting.source, Source::File { .. }) {
            set(&mut resolved, key, schema::typed(setting.variable, value));
        }
    }
    resolved
}

/// The keys for which a flag or the environment speaks.
fn outranked(effective: &[Effective]) -> Vec<OutrankedKey> {
    let speaks = |setting: &&Effective| !matches!(setting.source, Source::File { .. } | Source::Default);
    let keys = |setting: &Effective| {
        let (variable, source) = (setting.variable.name.to_owned(), setting.source.to_string());
        let key = move |key: &&str| OutrankedKey {
            key: (*key).to_owned(),
            variable: variable.clone(),
            source: source.clone(),
        };
        setting.variable.keys.iter().map(key).collect::<Vec<_>>()
    };
    effective.iter().filter(speaks).flat_map(keys).collect()
}

/// Sets a key, making the objects above it.
pub(crate) fn set(target: &mut Value, key: &str, value: Value) {
    if !target.is_object() {
        *target = json!({});
    }
    let Some(object) = target.as_object_mut() else { return };
    match key.split_once('.') {
        None => drop(object.insert(key.to_owned(), value)),
        Some((first, rest)) => set(object.entry(first.to_owned()).or_insert(Value::Null), rest, value),
    }
}

fn issue(problem: &Problem) -> SettingsIssue {
    match problem {
        Problem::Invalid { name, value, source, expected } => {
            let key = match source {
                Source::File { key, .. } if key == "<root>" => "",
                Source::File { key, .. } => key,
                _ => name,
            };
            SettingsIssue { path: key.to_owned(), message: format!("is `{value}`; expected {expected}") }
        }
        other => SettingsIssue { path: String::new(), message: other.to_string() },
    }
}

/// Replaces a file in one step: whoever reads it finds the old text or the new one. Only its owner can read it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link is kept and what it leads to is replaced.
    let path: PathBuf = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Such files are made with mode 600.
    let mut file = tempfile::Builder::new().prefix(".config-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn settings(folder: &Path, environment: &[(&str, &str)]) -> SettingsFile {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut sources = Sources::of_environment(environment);
        sources.flags = Flags::default();
        sources.config_file = (folder.join("sub/config.json"), FileText::Missing);
        SettingsFile::new(sources)
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), &[]);
        assert_eq!(settings.load().unwrap(), None);
        settings.store("{a: 1}").unwrap();
        fs::set_permissions(settings.file(), fs::Permissions::from_mode(0o644)).unwrap();
        settings.store("{a: 2}").unwrap();
        assert_eq!(settings.load().unwrap().as_deref(), Some("{a: 2}"));
        assert_eq!(fs::metadata(settings.file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(settings.file().parent().unwrap()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), &[]);
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("real"), "{}").unwrap();
        std::os::unix::fs::symlink(folder.path().join("real"), settings.file()).unwrap();
        settings.store("{a: 1}").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("real")).unwrap(), "{a: 1}");
        assert!(fs::symlink_metadata(settings.file()).unwrap().is_symlink());
    }

    #[test]
    fn everything_that_is_wrong_is_named_by_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), &[("LEANCLAW_GATEWAY_PORT", "7")]);
        let checked = settings.check("{gateway: {bind: 3}, logging: {level: 'loud'}, plugins: {allow: 'x'}}");
        let mut paths: Vec<&str> = checked.issues.iter().map(|issue| issue.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["gateway.bind", "logging.level", "plugins.allow"]);
        assert!(settings.check("[]").issues.iter().any(|issue| issue.path.is_empty()));
        assert!(settings.check("{a:").syntax.unwrap().contains("line 1"));
        // What the environment says is in effect and not in the file.
        let good = settings.check("{gateway: {port: 5, auth: {token: 'hunter2'}}}");
        assert!(good.issues.is_empty(), "{:?}", good.issues);
        assert_eq!((&good.parsed["gateway"]["port"], &good.resolved["gateway"]["port"]), (&json!(5), &json!(7)));
        assert_eq!(good.resolved["logging"]["level"], "info");
    }

    #[test]
    fn a_wrong_value_is_found_also_where_the_environment_says_another() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), &[("LEANCLAW_GATEWAY_PORT", "7"), ("LOG_LEVEL", "warn")]);
        let checked = settings.check("{gateway: {port: 'x', bind: 3}, logging: {level: 'info'}}");
        let paths = |issues: &[SettingsIssue]| issues.iter().map(|issue| issue.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&checked.issues), ["gateway.bind"]);
        assert_eq!(paths(&checked.covered), ["gateway.port"], "each once");
        // What only fits with what the environment says is no problem of the file.
        let open = "{gateway: {bind: '0.0.0.0'}}";
        assert!(!settings.check(open).issues.is_empty());
        let guarded = SettingsFile::new(Sources {
            environment: [("LEANCLAW_GATEWAY_API_KEY".to_owned(), "t0ken".to_owned())].into(),
            ..settings.sources
        });
        let checked = guarded.check(open);
        assert_eq!((checked.issues, checked.covered), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_counts_at_once_comes_from_all_sources() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), &[("LEANCLAW_GATEWAY_ALLOWED_ORIGINS", "https://of.environment")]);
        let text = "{gateway: {rateLimits: {controlPlane: 3}, trustedProxies: ['10.0.0.1'],
            controlUi: {allowedOrigins: ['https://of.file'], root: '/ui', basePath: '/claw'},
            nodes: {denyCommands: ['x']}}}";
        let live = settings.live(text).unwrap();
        assert_eq!(live.rates.control_plane, 3);
        assert_eq!(live.trusted_proxies, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(live.allowed_origins, ["https://of.environment"]);
        assert_eq!((live.control_ui.root, live.control_ui.base_path.as_str()), (Some("/ui".into()), "/claw"));
        assert_eq!(live.node_commands.deny, ["x"]);
        assert_eq!(settings.live("{gateway: {port: 'x'}}"), None);
    }

    #[test]
    fn keys_for_which_others_speak_are_named_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path(), &[("LEANCLAW_GATEWAY_HOST", "127.0.0.2")]);
        settings.sources.flags = Flags { log_level: Some("warn".into()), ..Flags::default() };
        let checked = settings.check("{gateway: {host: '127.0.0.1', port: 5}, logging: {level: 'info'}}");
        let named: Vec<_> = checked.outranked.iter().map(|key| (&*key.key, &*key.variable, &*key.source)).collect();
        let host = |key| (key, "LEANCLAW_GATEWAY_HOST", "environment");
        let level = ("logging.level", "LOG_LEVEL", "--log-level");
        assert_eq!(named, [host("gateway.bind"), host("gateway.customBindHost"), host("gateway.host"), level]);
    }

    #[test]
    fn what_a_running_gateway_is_told_anew_goes_by_the_names_of_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), &[]);
        let before = settings.live("{}").unwrap();
        for (key, value) in [
            ("gateway.trustedProxies", json!(["10.0.0.1"])),
            ("gateway.rateLimits", json!({"controlPlane": 3})),
            ("gateway.nodes.allowCommands", json!(["x"])),
            ("gateway.nodes.denyCommands", json!(["x"])),
            ("gateway.controlUi.allowedOrigins", json!(["https://ui.example"])),
            ("gateway.controlUi.root", json!("/ui")),
            ("gateway.controlUi.basePath", json!("/claw")),
        ] {
            let mut text = json!({});
            set(&mut text, key, value);
            assert_eq!(settings.live(&text.to_string()).unwrap().differences(&before), [key]);
        }
        let of_gateway = HOT.iter().filter(|key| key.starts_with("gateway.")).count();
        assert_eq!(of_gateway, 7, "a new one belongs in this test");
    }

    #[test]
    fn keys_say_when_they_count() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), &[]);
        for (key, reload) in [
            ("gateway.port", Reload::Restart),
            ("gateway", Reload::Restart),
            ("plugins.load.paths", Reload::Restart),
            ("plugins.entries.notes.config.unit", Reload::Hot),
            ("plugins.deny", Reload::Hot),
            ("logging.level", Reload::Hot),
            ("logging.consoleStyle", Reload::Restart),
            ("channels.telegram.botToken", Reload::None),
            ("gatewayx", Reload::None),
            ("gateway.rateLimits.perIp.read", Reload::Hot),
            ("gateway.controlUi.allowedOrigins", Reload::Hot),
            ("gateway.controlUi.basePath", Reload::Hot),
            ("gateway.trustedProxies", Reload::Hot),
            ("gateway.nodes.denyCommands", Reload::Hot),
            ("gateway.auth.token", Reload::Restart),
            ("gateway.auth.users.ann.role", Reload::Restart),
            ("hooks.enabled", Reload::Restart),
        ] {
            assert_eq!(settings.reload(key), reload, "{key}");
        }
        assert_eq!(plugin_of("plugins.entries.notes.config").unwrap().as_str(), "notes");
        assert_eq!(plugin_of("plugins.entries"), None);
    }
}
