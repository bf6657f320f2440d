//! The section `hooks`: other programs that leave events over HTTP. It has no variables.

use leanclaw_gateway::{HookMapping, Hooks};
use serde_json::{Map, Value};

use super::plugins::Wrong;
use super::value;

const SECRET: &str = "a text of 1 to 512 visible ASCII characters";
/// Keys of OpenClaw that say what a run of an agent is to be like; they are of no use before agents run.
const OF_AGENTS: [&str; 12] = [
    "agentId",
    "allowUnsafeExternalContent",
    "channel",
    "deliver",
    "id",
    "model",
    "name",
    "sessionKey",
    "thinking",
    "timeoutSeconds",
    "to",
    "transform",
];

/// The section as read.
#[derive(Debug, Default)]
pub(crate) struct HooksSection {
    /// None where hooks are switched off.
    pub(crate) hooks: Option<Hooks>,
    /// Whether they are set up and switched on without a token.
    pub(crate) lacks_token: bool,
    /// Whether `enabled` is all that is said, as the original LeanClaw has it, which took no hooks by it.
    pub(crate) only_enabled: bool,
    pub(crate) wrong: Vec<Wrong>,
    pub(crate) unknown: Vec<String>,
}

impl HooksSection {
    /// Reads what is known of the value of the key `hooks`, and leaves the rest.
    pub(crate) fn take(&mut self, hooks: &mut Map<String, Value>) {
        let is_alone = hooks.len() == 1;
        let enabled = hooks.shift_remove("enabled").is_some_and(|given| self.truth("hooks.enabled", &given));
        let token = hooks.shift_remove("token").and_then(|given| {
            let secret = value::secret(&given);
            if secret.is_none() {
                self.wrong.push(("hooks.token".to_owned(), "(not shown)".into(), SECRET.to_owned()));
            }
            secret
        });
        let mut read = Hooks::new(token.clone().unwrap_or_else(|| leanclaw_types::redact::Secret::new("")));
        if let Some(path) = hooks.shift_remove("path") {
            self.path(&path, &mut read.path);
        }
        if let Some(allowed) = hooks.shift_remove("allowRequestSessionKey") {
            read.allow_session_key = self.truth("hooks.allowRequestSessionKey", &allowed);
        }
        if let Some(bytes) = hooks.shift_remove("maxBodyBytes") {
            match value::whole_number(&bytes, 1, 16 * 1024 * 1024).and_then(|bytes| usize::try_from(bytes).ok()) {
                Some(bytes) => read.body_bytes = bytes,
                None => {
                    self.wrong.push(("hooks.maxBodyBytes".to_owned(), bytes, "bytes from 1 to 16777216".to_owned()));
                }
            }
        }
        if let Some(mappings) = hooks.shift_remove("mappings") {
            read.mappings = self.mappings(&mappings);
        }
        let is_without = enabled && token.is_none() && self.wrong.is_empty();
        (self.lacks_token, self.only_enabled) = (is_without && !is_alone, is_without && is_alone);
        self.hooks = token.filter(|_| enabled).map(|_| read);
    }

    fn path(&mut self, given: &Value, path: &mut String) {
        let good = |text: &&str| {
            let first = text.trim_start_matches('/').split('/').next().unwrap_or_default();
            let own = [
                "",
                "health",
                "healthz",
                "metrics",
                "openapi.json",
                "plugins",
                "ready",
                "readyz",
                "startup",
                "startupz",
                "tools",
            ];
            let plain = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'/' | b'.');
            !own.contains(&first) && text.bytes().all(plain)
        };
        match given.as_str().map(|text| text.trim().trim_end_matches('/')).filter(good) {
            Some(text) => *path = format!("/{}", text.trim_start_matches('/')),
            None => {
                let expected = "a path such as `/hooks` that the gateway itself does not use";
                self.wrong.push(("hooks.path".to_owned(), given.clone(), expected.to_owned()));
            }
        }
    }

    fn mappings(&mut self, given: &Value) -> Vec<HookMapping> {
        let Some(list) = given.as_array() else {
            self.wrong.push(("hooks.mappings".to_owned(), given.clone(), "a list, `[{ ... }]`".to_owned()));
            return Vec::new();
        };
        let mut mappings = Vec::new();
        for (index, given) in list.iter().enumerate() {
            let path = format!("hooks.mappings[{index}]");
            match given.as_object() {
                Some(given) => mappings.push(self.mapping(&path, given)),
                None => self.wrong.push((path, given.clone(), "an object, `{ ... }`".to_owned())),
            }
        }
        mappings
    }

    fn mapping(&mut self, path: &str, given: &Map<String, Value>) -> HookMapping {
        let mut mapping = HookMapping { runs_agent: true, ..HookMapping::default() };
        let (mut of_event, mut of_message) = (None, None);
        for (key, value) in given {
            let path = format!("{path}.{}", key.escape_debug());
            match key.as_str() {
                "match" => self.place(&path, value, &mut mapping),
                "action" => mapping.runs_agent = self.one_of(&path, value, ["agent", "wake"]) == Some("agent"),
                "wakeMode" => {
                    mapping.waits_for_heartbeat =
                        self.one_of(&path, value, ["now", "next-heartbeat"]) == Some("next-heartbeat");
                }
                "textTemplate" => of_event = self.text(&path, value),
                "messageTemplate" => of_message = self.text(&path, value),
                other if OF_AGENTS.contains(&other) => {}
                _ => self.unknown.push(path),
            }
        }
        mapping.template = if mapping.runs_agent { of_message } else { of_event }.unwrap_or_default();
        mapping
    }

    fn place(&mut self, path: &str, given: &Value, mapping: &mut HookMapping) {
        let Some(given) = given.as_object() else {
            self.wrong.push((path.to_owned(), given.clone(), "an object, `{path, source}`".to_owned()));
            return;
        };
        for (key, value) in given {
            let path = format!("{path}.{}", key.escape_debug());
            match key.as_str() {
                "path" => mapping.path = self.text(&path, value).map(|text| text.trim_matches('/').to_owned()),
                "source" => mapping.source = self.text(&path, value),
                _ => self.unknown.push(path),
            }
        }
    }

    fn text(&mut self, path: &str, given: &Value) -> Option<String> {
        if given.as_str().is_none() {
            self.wrong.push((path.to_owned(), given.clone(), "a text".to_owned()));
        }
        given.as_str().map(str::to_owned)
    }

    fn truth(&mut self, path: &str, given: &Value) -> bool {
        if given.as_bool().is_none() {
            self.wrong.push((path.to_owned(), given.clone(), "`true` or `false`".to_owned()));
        }
        given.as_bool().unwrap_or(false)
    }

    fn one_of(&mut self, path: &str, given: &Value, words: [&'static str; 2]) -> Option<&'static str> {
        let found = words.into_iter().find(|word| given == word);
        if found.is_none() {
            self.wrong.push((path.to_owned(), given.clone(), format!("`{}` or `{}`", words[0], words[1])));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(mut hooks: Value) -> (HooksSection, Value) {
        let mut section = HooksSection::default();
        section.take(hooks.as_object_mut().unwrap());
        (section, hooks)
    }

    #[test]
    fn hooks_are_read_and_what_is_not_known_is_left() {
        let (section, rest) = read(json!({
            "enabled": true, "token": "t", "path": "in/", "maxBodyBytes": 10, "presets": ["gmail"], "mappings": [
                {"match": {"path": "/ci", "source": "s"}, "action": "wake", "wakeMode": "next-heartbeat",
                    "textTemplate": "{{a}}", "messageTemplate": "no", "name": "CI"},
                {"messageTemplate": "m"},
            ],
        }));
        assert_eq!((section.wrong.len(), section.unknown.len()), (0, 0), "{section:?}");
        let hooks = section.hooks.unwrap();
        assert_eq!((hooks.path.as_str(), hooks.token.expose(), hooks.body_bytes), ("/in", "t", 10));
        let expected = HookMapping {
            path: Some("ci".into()),
            source: Some("s".into()),
            runs_agent: false,
            waits_for_heartbeat: true,
            template: "{{a}}".into(),
        };
        assert_eq!(hooks.mappings[0], expected);
        assert!(hooks.mappings[1].runs_agent && hooks.mappings[1].template == "m");
        assert_eq!(rest, json!({"presets": ["gmail"]}));
    }

    #[test]
    fn hooks_are_off_until_they_are_switched_on_and_want_a_token() {
        assert_eq!(read(json!({"token": "t"})).0.hooks, None);
        let (section, _) = read(json!({"enabled": true, "path": "/in"}));
        assert!(section.hooks.is_none() && section.lacks_token && !section.only_enabled);
        let (section, _) = read(json!({"enabled": true}));
        assert!(section.hooks.is_none() && !section.lacks_token && section.only_enabled);
        let (section, _) = read(json!({
            "enabled": 1, "token": "has space", "path": "/plugins/x", "maxBodyBytes": 0, "mappings": [3, {"action": "x"}],
        }));
        let wrong: Vec<_> = section.wrong.iter().map(|(path, ..)| path.as_str()).collect();
        let expected = [
            "hooks.enabled",
            "hooks.token",
            "hooks.path",
            "hooks.maxBodyBytes",
            "hooks.mappings[0]",
            "hooks.mappings[1].action",
        ];
        assert_eq!(wrong, expected);
        assert!(!format!("{:?}", section.wrong).contains("has space"));
    }
}
