//! From sources to a [`Config`]: a pure function, so that precedence and errors are tested without a process.

use std::net::IpAddr;
use std::path::PathBuf;

use leanclaw_gateway::Hooks;
use leanclaw_types::redact::Secret;
use serde_json::Value;

use super::file::{self, FileSettings};
use super::layer::{Raw, RawLayer, Source};
use super::plugins::{PluginsConfig, Section};
use super::problem::{ConfigError, Problem};
use super::sources::{FileText, Sources};
use super::value::{self, AuthMode, PathBase};
use super::variables::{self, Variable};
use super::{
    AccessConfig, BuildConfig, Config, ControlUi, Effective, GatewayAuth, GatewayConfig, LogConfig, Resolution,
    WasmConfig,
};

/// Resolves all settings.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong, not just the first thing.
pub fn resolve(sources: &Sources) -> Result<Resolution, ConfigError> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let text_layers = sources.text_layers(&mut problems, &mut warnings);
    let file = read_file(sources);
    problems.extend(file.problems);
    warnings.extend(file.warnings);
    let mut reader = Reader { layer: text_layers.over(file.layer), sources, problems, warnings, effective: Vec::new() };
    let config = reader.config(file.plugins, file.access.access, file.hooks.hooks);
    reader.warn_about_shared_secret();
    reader
        .effective
        .sort_by_key(|effective| variables::ALL.iter().position(|variable| variable.name == effective.variable.name));
    match config {
        Some(config) if reader.problems.is_empty() => Ok(Resolution {
            config,
            effective: reader.effective,
            warnings: reader.warnings,
            config_file: sources.config_file.0.clone(),
        }),
        _ => Err(ConfigError { problems: reader.problems }),
    }
}

fn read_file(sources: &Sources) -> FileSettings {
    let (path, text) = &sources.config_file;
    let unreadable = |message: String| FileSettings {
        problems: vec![Problem::Unreadable { path: path.clone(), message }],
        ..FileSettings::default()
    };
    match text {
        FileText::Text { text, .. } => file::read(path, text),
        FileText::Unreadable(message) => unreadable(message.clone()),
        FileText::Missing if sources.flags.config.is_some() => unreadable("there is no such file".to_owned()),
        FileText::Missing => FileSettings::default(),
    }
}

/// Reads typed values out of the combined layer and notes what was read.
pub(super) struct Reader<'a> {
    pub(super) layer: RawLayer,
    sources: &'a Sources,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    effective: Vec<Effective>,
}

impl Reader<'_> {
    fn config(&mut self, plugins: Section, access: AccessConfig, hooks: Option<Hooks>) -> Option<Config> {
        let host = self.read(&variables::GATEWAY_HOST, value::host);
        let port = self.read(&variables::GATEWAY_PORT, value::port);
        let auth = self.auth();
        let trusted_proxies = self.read_list(&variables::GATEWAY_TRUSTED_PROXIES, value::addresses);
        let allowed_origins = self.read_list(&variables::GATEWAY_ALLOWED_ORIGINS, value::origins);
        let control_ui = self.control_ui();
        let auth = self.auth_fit_for(host, auth);
        self.need_a_shared_secret_for(&access, auth.as_ref());
        self.need_another_secret_for(hooks.as_ref(), auth.as_ref());
        let data_dir_is_chosen = self.layer.get(&variables::DATA_DIR).is_some();
        let data_dir = self.read_computed(&variables::DATA_DIR, value::path, Self::default_data_dir);
        let data_plugins = data_dir.as_ref().map(|dir| dir.join("plugins"));
        let plugin_dir = self.read_computed(&variables::PLUGIN_DIR, value::path, |_| data_plugins);
        let pooling = self.read(&variables::WASM_POOLING, value::pooling);
        let max_instances = self.read(&variables::MAX_INSTANCES, value::instances);
        let agents = self.agents();
        let audit_rows = self.read(&variables::AUDIT_MAX_ROWS, value::audit_rows);
        let tools = self.read_path(&variables::TOOLS);
        let wit = self.read_path(&variables::WIT);
        let level = self.read(&variables::LOG_LEVEL, value::log_level);
        let format = self.read(&variables::LOG_FORMAT, value::log_format);
        let time_zone = self.time_zone();
        Some(Config {
            gateway: GatewayConfig {
                host: host?,
                port: port?,
                auth: auth?,
                access,
                hooks,
                trusted_proxies: trusted_proxies?,
                allowed_origins: allowed_origins?,
                control_ui: control_ui?,
            },
            plugins: PluginsConfig {
                dir: plugin_dir?,
                enabled: plugins.enabled.unwrap_or(true),
                allow: plugins.allow,
                deny: plugins.deny,
                entries: plugins.entries,
            },
            wasm: WasmConfig { pooling: pooling?, max_instances: max_instances? },
            agents: agents?,
            audit_rows: audit_rows?,
            build: BuildConfig { tools: tools?, wit: wit? },
            log: LogConfig { level: level?, format: format? },
            data_dir: data_dir?,
            data_dir_is_chosen,
            time_zone: time_zone?,
        })
    }

    /// Reads a setting that has a fixed default.
    pub(super) fn read<T: ToString>(
        &mut self,
        variable: &'static Variable,
        parse: fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let raw = self.layer.get(variable).cloned().unwrap_or_else(|| Raw::text(variable.default, Source::Default));
        self.check(variable, &raw, |value, _| parse(value), T::to_string)
    }

    /// Reads a list; without a value it is empty.
    fn read_list<T: ToString>(
        &mut self,
        variable: &'static Variable,
        parse: fn(&Value) -> Option<Vec<T>>,
    ) -> Option<Vec<T>> {
        let Some(raw) = self.layer.get(variable).cloned() else {
            self.note(variable, None, Source::Default);
            return Some(Vec::new());
        };
        let show = |list: &Vec<T>| list.iter().map(T::to_string).collect::<Vec<_>>().join(", ");
        self.check(variable, &raw, |value, _| parse(value), show)
    }

    /// Reads a path that need not be given; the outer option is none when what is given is no path.
    fn read_path(&mut self, variable: &'static Variable) -> Option<Option<PathBuf>> {
        let Some(raw) = self.layer.get(variable).cloned() else {
            self.note(variable, None, Source::Default);
            return Some(None);
        };
        self.check(variable, &raw, value::path, |path| value::shown_path(path)).map(Some)
    }

    /// Reads a path whose default is worked out.
    fn read_computed(
        &mut self,
        variable: &'static Variable,
        parse: impl Fn(&Value, &PathBase) -> Option<PathBuf>,
        default: impl FnOnce(&mut Self) -> Option<PathBuf>,
    ) -> Option<PathBuf> {
        if let Some(raw) = self.layer.get(variable).cloned() {
            return self.check(variable, &raw, parse, |path| value::shown_path(path));
        }
        let path = default(self)?;
        self.note(variable, Some(value::shown_path(&path)), Source::Default);
        Some(path)
    }

    /// Parses a value and notes it, or notes what is wrong with it.
    pub(super) fn check<T>(
        &mut self,
        variable: &'static Variable,
        raw: &Raw,
        parse: impl Fn(&Value, &PathBase) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let Some(value) = parse(&raw.value, &self.path_base(&raw.source)) else {
            let Raw { value, source } = raw;
            self.problems.push(Problem::invalid(variable.name, value, variable.secret, source, variable.expects));
            return None;
        };
        self.note(variable, Some(show(&value)), raw.source.clone());
        Some(value)
    }

    pub(super) fn note(&mut self, variable: &'static Variable, value: Option<String>, source: Source) {
        self.effective.push(Effective { variable, value, source });
    }

    /// Relative paths of the configuration file start at its own directory, all others at the working directory.
    fn path_base(&self, source: &Source) -> PathBase {
        let places = &self.sources.places;
        let relative_to = match source {
            Source::File { path, .. } => path.parent().unwrap_or(&places.working_dir).to_owned(),
            _ => places.working_dir.clone(),
        };
        PathBase { home: places.home.clone(), relative_to }
    }

    fn default_data_dir(&mut self) -> Option<PathBuf> {
        let found = self.sources.places.data_home.as_ref().map(|home| home.join("leanclaw"));
        if found.is_none() {
            let message = "there is no home directory to keep data in; set LEANCLAW_DATA_DIR".to_owned();
            self.problems.push(Problem::Conflict { message });
        }
        found
    }

    fn control_ui(&mut self) -> Option<ControlUi> {
        let root = self.read_path(&variables::CONTROL_UI_ROOT);
        let variable = &variables::CONTROL_UI_BASE_PATH;
        let base_path = match self.layer.get(variable).cloned() {
            Some(raw) => self.check(variable, &raw, |value, _| value::url_path(value), Clone::clone),
            None => {
                self.note(variable, None, Source::Default);
                Some(String::new())
            }
        };
        Some(ControlUi { root: root?, base_path: base_path? })
    }

    fn auth(&mut self) -> Option<GatewayAuth> {
        let token = self.credential(&variables::GATEWAY_API_KEY);
        let password = self.credential(&variables::GATEWAY_PASSWORD);
        let mode = match self.layer.get(&variables::GATEWAY_AUTH).cloned() {
            Some(raw) => {
                let parse = |value: &Value, _: &PathBase| value::auth_mode(value);
                self.check(&variables::GATEWAY_AUTH, &raw, parse, |mode| mode.name().to_owned())?
            }
            None => {
                let mode = match (token.is_some(), password.is_some()) {
                    (true, _) => AuthMode::Token,
                    (false, true) => AuthMode::Password,
                    (false, false) => AuthMode::None,
                };
                self.note(&variables::GATEWAY_AUTH, Some(mode.name().to_owned()), Source::Default);
                mode
            }
        };
        let secrets = [
            (AuthMode::Token, &variables::GATEWAY_API_KEY, token),
            (AuthMode::Password, &variables::GATEWAY_PASSWORD, password),
        ];
        let mut wanted = None;
        for (of, variable, secret) in secrets {
            if of == mode {
                wanted = Some((variable, secret));
            } else if secret.is_some() {
                // Its owner believes otherwise.
                let (mode, name) = (mode.name(), variable.name);
                self.warnings.push(format!("LEANCLAW_GATEWAY_AUTH is `{mode}`, so {name} is not asked for"));
            }
        }
        let Some((variable, secret)) = wanted else { return Some(GatewayAuth::Open) };
        let Some(secret) = secret else {
            let (mode, name) = (mode.name(), variable.name);
            let message = format!("LEANCLAW_GATEWAY_AUTH is `{mode}` and there is no {mode}: set {name}");
            self.problems.push(Problem::Conflict { message });
            return None;
        };
        let secret = secret?;
        Some(if mode == AuthMode::Password { GatewayAuth::Password(secret) } else { GatewayAuth::Token(secret) })
    }

    /// A secret that may be set: none when it is not, some of none when it is wrong.
    pub(super) fn credential(&mut self, variable: &'static Variable) -> Option<Option<Secret>> {
        let Some(raw) = self.layer.get(variable).cloned() else {
            self.note(variable, None, Source::Default);
            return None;
        };
        Some(self.check(variable, &raw, |value, _| value::secret(value), ToString::to_string))
    }

    /// Credentials of users would be of no use where nobody needs one.
    fn need_a_shared_secret_for(&mut self, access: &AccessConfig, auth: Option<&GatewayAuth>) {
        if auth == Some(&GatewayAuth::Open) && !access.users.is_empty() {
            let message = "gateway.auth.users has credentials and the gateway asks for none: set \
                           LEANCLAW_GATEWAY_API_KEY to a secret"
                .to_owned();
            self.problems.push(Problem::Conflict { message });
        }
    }

    /// Who may leave an event must not be let in by the same token.
    fn need_another_secret_for(&mut self, hooks: Option<&Hooks>, auth: Option<&GatewayAuth>) {
        let (Some(hooks), Some(GatewayAuth::Token(own) | GatewayAuth::Password(own))) = (hooks, auth) else { return };
        if hooks.token.expose() == own.expose() {
            let message = "hooks.token is the gateway's own secret: set it to another one".to_owned();
            self.problems.push(Problem::Conflict { message });
        }
    }

    /// An open gateway is for this machine only.
    fn auth_fit_for(&mut self, host: Option<IpAddr>, auth: Option<GatewayAuth>) -> Option<GatewayAuth> {
        let (host, auth) = (host?, auth?);
        if auth == GatewayAuth::Open && !host.to_canonical().is_loopback() {
            let message = format!(
                "the gateway would listen on {host}, which other machines reach, and let everybody in: set \
                 LEANCLAW_GATEWAY_API_KEY to a secret, or LEANCLAW_GATEWAY_HOST to 127.0.0.1"
            );
            self.problems.push(Problem::Conflict { message });
            return None;
        }
        Some(auth)
    }

    /// Warns when the file that holds a secret can be read by other users of the machine.
    fn warn_about_shared_secret(&mut self) {
        let secrets = variables::ALL.iter().filter(|variable| variable.secret);
        for source in secrets.filter_map(|variable| self.layer.get(variable)).map(|raw| &raw.source) {
            let (path, text) = match source {
                Source::DotEnv { path, .. } => (path, &self.sources.dotenv.1),
                Source::File { path, .. } => (path, &self.sources.config_file.1),
                _ => continue,
            };
            if matches!(text, FileText::Text { others_can_read: true, .. }) {
                let path = path.display();
                let warning = format!("{path} holds a secret and other users can read it; run `chmod 600 {path}`");
                self.warnings.push(warning);
            }
        }
    }

    fn time_zone(&mut self) -> Option<jiff::tz::TimeZone> {
        let variable = &variables::TIME_ZONE;
        if let Some(raw) = self.layer.get(variable).cloned() {
            return self.check(variable, &raw, |value, _| value::time_zone(value), zone_name);
        }
        let zone = jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC);
        self.note(variable, Some(zone_name(&zone)), Source::Default);
        Some(zone)
    }
}

fn zone_name(zone: &jiff::tz::TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => jiff::Timestamp::UNIX_EPOCH.to_zoned(zone.clone()).strftime("UTC%:z").to_string(),
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
