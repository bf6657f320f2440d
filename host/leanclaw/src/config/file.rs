//! The configuration file: from its JSON5 text to a layer of settings, the plugin section, and what nobody reads.

use std::path::Path;

use serde_json::{Map, Value};

use super::access::AccessSection;
use super::hooks::HooksSection;
use super::layer::{Raw, RawLayer, Source};
use super::nearest::nearest;
use super::plugins::Section;
use super::problem::Problem;
use super::variables::{self, Variable};
use super::{foreign, json5_tree};

/// What a configuration file says.
#[derive(Debug, Default)]
pub(crate) struct FileSettings {
    pub(crate) layer: RawLayer,
    pub(crate) plugins: Section,
    pub(crate) access: AccessSection,
    pub(crate) hooks: HooksSection,
    pub(crate) warnings: Vec<String>,
    pub(crate) problems: Vec<Problem>,
}

/// Reads the text of the file at `path`.
pub(crate) fn read(path: &Path, text: &str) -> FileSettings {
    let mut settings = FileSettings::default();
    let tree = match json5_tree::parse(text) {
        Ok(tree) => tree,
        Err(error) => {
            let json5_tree::SyntaxError { line, column, message } = error;
            settings.problems.push(Problem::Syntax { path: path.to_owned(), line, column, message });
            return settings;
        }
    };
    let Value::Object(mut root) = tree else {
        settings.problems.push(settings_problem(path, "<root>", &tree, "an object, `{ ... }`"));
        return settings;
    };
    if let Some(Value::Object(plugins)) = root.get_mut("plugins") {
        *plugins = settings.plugins.read(plugins);
        let wrong = std::mem::take(&mut settings.plugins.wrong);
        settings
            .problems
            .extend(wrong.into_iter().map(|(key, value, expected)| settings_problem(path, &key, &value, &expected)));
        for key in std::mem::take(&mut settings.plugins.unknown) {
            settings.warnings.push(format!("{}: unknown key `{key}` is ignored", path.display()));
        }
    }
    if let Some(Value::Object(gateway)) = root.get_mut("gateway") {
        settings.access.take(gateway);
        let wrong = std::mem::take(&mut settings.access.wrong);
        settings
            .problems
            .extend(wrong.into_iter().map(|(key, value, expected)| settings_problem(path, &key, &value, &expected)));
        for key in std::mem::take(&mut settings.access.unknown) {
            settings.warnings.push(format!("{}: unknown key `{key}` is ignored", path.display()));
        }
    }
    settings.read_hooks(path, &mut root);
    settings.walk(path, "", &root);
    for variable in variables::ALL {
        settings.pick(path, variable, &root);
    }
    settings
}

fn settings_problem(path: &Path, key: &str, value: &Value, expected: &str) -> Problem {
    let source = Source::File { path: path.to_owned(), key: key.to_owned() };
    // A value in the wrong place may be a secret in the wrong place: objects and lists are not shown.
    let shown = match value {
        Value::Object(_) => Value::from("{ ... }"),
        Value::Array(_) => Value::from("[ ... ]"),
        other => other.clone(),
    };
    Problem::invalid(key, &shown, false, &source, expected)
}

fn lookup<'a>(root: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let first = root.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_object()?.get(part))
}

impl FileSettings {
    fn read_hooks(&mut self, path: &Path, root: &mut Map<String, Value>) {
        let Some(Value::Object(hooks)) = root.get_mut("hooks") else { return };
        self.hooks.take(hooks);
        if hooks.is_empty() {
            root.shift_remove("hooks");
        }
        let wrong = std::mem::take(&mut self.hooks.wrong);
        let problem = |(key, value, expected): (String, Value, String)| settings_problem(path, &key, &value, &expected);
        self.problems.extend(wrong.into_iter().map(problem));
        for key in std::mem::take(&mut self.hooks.unknown) {
            self.warnings.push(format!("{}: unknown key `{key}` is ignored", path.display()));
        }
        if self.hooks.lacks_token {
            let message = "hooks.enabled is true and there is no hooks.token: set it to a secret of its own".to_owned();
            self.problems.push(Problem::Conflict { message });
        }
        if self.hooks.only_enabled {
            let (path, what) = (path.display(), "set `hooks.token` to a secret of its own to switch them on");
            self.warnings.push(format!("{path}: `hooks.enabled` alone leaves hooks off; {what}"));
        }
    }

    /// Takes the first of a variable's keys that is set into the layer.
    fn pick(&mut self, path: &Path, variable: &'static Variable, root: &Map<String, Value>) {
        let mut winner: Option<&str> = None;
        for key in variable.keys {
            let Some(value) = lookup(root, key) else { continue };
            let points_to_next_key = *key == "gateway.bind" && value == "custom";
            if points_to_next_key {
                continue;
            }
            let source = Source::File { path: path.to_owned(), key: (*key).to_owned() };
            if let Some(winner) = winner {
                let differs = lookup(root, winner) != Some(value);
                if differs {
                    self.warnings.push(format!("{source} is ignored because `{winner}` is set, which means the same"));
                }
                continue;
            }
            winner = Some(*key);
            if let Some(reference) = value.as_str().and_then(substitution) {
                let expected = format!(
                    "the value itself: `${{{reference}}}` is not replaced here (set {} in the environment instead)",
                    variable.name
                );
                self.problems.push(Problem::invalid(key, value, variable.secret, &source, &expected));
                continue;
            }
            self.layer.set(variable, Raw { value: value.clone(), source });
        }
    }

    /// Reports every key that nothing reads.
    fn walk(&mut self, path: &Path, prefix: &str, object: &Map<String, Value>) {
        for (name, value) in object {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if variables::ALL.iter().any(|variable| variable.keys.contains(&key.as_str())) {
                continue;
            }
            let leads_to_a_variable = variables::ALL
                .iter()
                .flat_map(|variable| variable.keys)
                .any(|known| known.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('.')))
                || key == "plugins";
            let knows = foreign::who_knows_key(&key);
            match value {
                Value::Object(below) if leads_to_a_variable || (knows.is_none() && foreign::has_keys_below(&key)) => {
                    self.walk(path, &key, below);
                }
                _ if leads_to_a_variable && knows.is_none() => {
                    // Its content is not shown: it may be a secret that was put one level too high.
                    let kind = Value::from(if value.is_array() { "[ ... ]" } else { "a single value" });
                    self.problems.push(settings_problem(path, &key, &kind, "an object, `{ ... }`"));
                }
                _ => self.warnings.push(unused_key(path, &key, knows)),
            }
        }
    }
}

/// The name in `${NAME}`, when a text holds such a reference.
fn substitution(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("${")?;
    let (name, _) = rest.split_once('}')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some(name)
}

fn unused_key(path: &Path, key: &str, knows: Option<foreign::KnownTo>) -> String {
    let (path, shown) = (path.display(), key.escape_debug());
    if let Some(knows) = knows {
        return format!("{path}: `{shown}` is a key of {}; this version does not use it", knows.as_str());
    }
    let known = variables::ALL.iter().flat_map(|variable| variable.keys.iter().copied());
    let known = known.chain(variables::FILE_ONLY_KEYS.iter().map(|(key, _)| *key));
    let sections = ["gateway", "plugins", "logging", "data", "wasm", "agents", "models", "sandbox"];
    let candidates: Vec<&str> = if key.contains('.') { known.collect() } else { sections.into() };
    match nearest(key, candidates) {
        Some(meant) => format!("{path}: unknown key `{shown}` is ignored; did you mean `{meant}`?"),
        None => format!("{path}: unknown key `{shown}` is ignored"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> FileSettings {
        read(Path::new("config.json"), text)
    }

    fn value_of(settings: &FileSettings, variable: &Variable) -> Option<String> {
        settings.layer.get(variable).map(|raw| raw.value.to_string())
    }

    #[test]
    fn openclaw_keys_win_over_the_original_ones_and_the_loser_is_named() {
        let settings = read_text("{gateway: {auth: {token: 'new'}, apiKey: 'old', host: '::1'}}");
        assert_eq!(value_of(&settings, &variables::GATEWAY_API_KEY).as_deref(), Some("\"new\""));
        assert_eq!(value_of(&settings, &variables::GATEWAY_HOST).as_deref(), Some("\"::1\""));
        assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
        assert!(settings.warnings[0].contains("gateway.apiKey"), "{:?}", settings.warnings);
        assert!(read_text("{gateway: {auth: {token: 'same'}, apiKey: 'same'}}").warnings.is_empty());
    }

    /// Every key that the original LeanClaw knows, as its own documentation shows them.
    #[test]
    fn a_whole_file_of_the_original_stops_nothing() {
        let settings = read_text(
            r#"{
              "assistant": {"name": "Andy"},
              "gateway": {"port": 18790, "host": "127.0.0.1", "apiKey": "secret"},
              "container": {"image": "leanclaw-agent:latest", "timeout": 1800000, "maxConcurrent": 5,
                            "maxOutputSize": 10485760, "memoryLimit": "512m", "cpuLimit": "1.0"},
              "provider": {"default": "anthropic", "anthropicApiKey": "a", "githubToken": "g"},
              "localProvider": {"baseUrl": "http://localhost:8000", "apiKey": "k", "model": "m"},
              "heartbeat": {"interval": 60000, "skipWhenBusy": true},
              "compaction": {"model": "claude-haiku-4-5", "autoCompact": true},
              "approval": {"timeout": 60000},
              "skills": {"dir": "/path"},
              "hooks": {"enabled": true},
              "messageRouting": {"rules": [{"match": ["code review", "PR"], "model": "m"}], "default": "n"}
            }"#,
        );
        assert_eq!(settings.problems.len(), 0, "{:?}", settings.problems);
        assert_eq!(value_of(&settings, &variables::GATEWAY_PORT).as_deref(), Some("18790"));
        assert_eq!(value_of(&settings, &variables::GATEWAY_API_KEY).as_deref(), Some("\"secret\""));
        let of_hooks: Vec<&String> = settings.warnings.iter().filter(|line| line.contains("hooks")).collect();
        assert!(matches!(of_hooks.as_slice(), [line] if line.contains("`hooks.token`")), "{of_hooks:?}");
    }

    #[test]
    fn a_custom_bind_reads_its_address_from_its_own_key() {
        let settings = read_text("{gateway: {bind: 'custom', customBindHost: '10.0.0.1'}}");
        assert_eq!(value_of(&settings, &variables::GATEWAY_HOST).as_deref(), Some("\"10.0.0.1\""));
    }

    #[test]
    fn an_unknown_key_is_a_warning_and_the_rest_counts() {
        let settings = read_text("{gatway: {port: 1}, gateway: {prot: 2, port: 3, xyzzy: 4}}");
        assert_eq!(value_of(&settings, &variables::GATEWAY_PORT).as_deref(), Some("3"));
        assert!(settings.problems.is_empty());
        let [section, key, odd] = settings.warnings.as_slice() else { panic!("{:?}", settings.warnings) };
        assert!(section.contains("did you mean `gateway`?"), "{section}");
        assert!(key.contains("`gateway.prot`") && key.contains("did you mean `gateway.port`?"), "{key}");
        assert!(odd.contains("xyzzy") && !odd.contains("did you mean"), "{odd}");
    }

    #[test]
    fn keys_of_others_are_told_apart_from_mistakes() {
        let text = "{provider: {default: 'anthropic'}, agents: {defaults: {userTimezone: 'UTC', model: 'x'}, list: []},
                     channels: {slack: {}}, gateway: {tls: {enabled: true}}}";
        let settings = read_text(text);
        let warnings = settings.warnings.join("\n");
        assert_eq!(settings.warnings.len(), 5, "{warnings}");
        assert!(warnings.contains("`provider.default` is a key of the original LeanClaw"), "{warnings}");
        assert!(warnings.contains("`agents.defaults.model` is a key of OpenClaw"), "{warnings}");
        assert!(warnings.contains("`gateway.tls` is a key of OpenClaw"), "{warnings}");
        assert!(!warnings.contains("did you mean"), "{warnings}");
        assert!(settings.problems.is_empty());
        assert_eq!(value_of(&settings, &variables::TIME_ZONE).as_deref(), Some("\"UTC\""));
    }

    #[test]
    fn a_section_of_the_wrong_shape_is_a_problem_and_shows_no_content() {
        for text in ["{gateway: 5}", "{plugins: ['secret-in-the-wrong-place']}", "[]", "{gateway: {auth: 'secret-in'}}"]
        {
            let settings = read_text(text);
            assert_eq!(settings.problems.len(), 1, "{text}: {:?}", settings.problems);
            let shown = settings.problems[0].to_string();
            assert!(shown.contains("an object") && !shown.contains("secret-in"), "{shown}");
        }
    }

    #[test]
    fn a_reference_is_refused_instead_of_being_taken_literally() {
        let settings = read_text("{gateway: {auth: {token: '${OPENCLAW_GATEWAY_TOKEN}'}}}");
        assert_eq!(value_of(&settings, &variables::GATEWAY_API_KEY), None);
        assert!(settings.problems[0].to_string().contains("OPENCLAW_GATEWAY_TOKEN"), "{:?}", settings.problems);
    }
}
