//! Hooks: other programs that leave an event for an agent, over HTTP, with a token of their own.
//!
//! What is here is how they are configured and how a text is made of what they send; [`crate::web`] answers them.

use leanclaw_types::redact::Secret;
use serde_json::Value;

/// The hooks there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Hooks {
    /// What callers show. Another one than the gateway's own: it is good for hooks only.
    pub token: Secret,
    /// The path below which they are, such as `/hooks`; no slash at its end.
    pub path: String,
    /// Whether a caller may name the session that an agent is to use.
    pub allow_session_key: bool,
    /// Largest body, in bytes.
    pub body_bytes: usize,
    /// What to make of paths of their own, the first that fits.
    pub mappings: Vec<HookMapping>,
}

/// What to make of a hook with a name of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookMapping {
    /// The path behind [`Hooks::path`] without its first slash; none for any.
    pub path: Option<String>,
    /// What the body says under `source`; none for anything.
    pub source: Option<String>,
    /// Whether an agent is to be run, in place of leaving it an event.
    pub runs_agent: bool,
    /// Whether the event waits for the next heartbeat.
    pub waits_for_heartbeat: bool,
    /// The text of the event or the message: `{{a.b[0]}}` stands for what the body says there.
    pub template: String,
}

impl Hooks {
    /// Hooks with that token, at `/hooks`.
    pub fn new(token: Secret) -> Self {
        Self {
            token,
            path: "/hooks".to_owned(),
            allow_session_key: false,
            body_bytes: 256 * 1024,
            mappings: Vec::new(),
        }
    }

    /// What follows the path of the hooks in `path`: empty, or what is behind the slash; none elsewhere.
    pub(crate) fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.path.as_str())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }

    /// The mapping for a name and what was sent.
    pub(crate) fn mapping(&self, name: &str, body: &Value) -> Option<&HookMapping> {
        let source = body.get("source").and_then(Value::as_str);
        self.mappings.iter().find(|mapping| {
            mapping.path.as_deref().is_none_or(|path| path == name)
                && mapping.source.as_deref().is_none_or(|wanted| source == Some(wanted))
        })
    }
}

/// The text of a template. What the body does not say is left out.
pub(crate) fn filled(template: &str, body: &Value) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let Some((name, behind)) = after.split_once("}}") else {
            text.push_str("{{");
            rest = after;
            continue;
        };
        let name = name.trim();
        match found(body, name.strip_prefix("payload.").unwrap_or(name)) {
            None | Some(Value::Null) => {}
            Some(Value::String(said)) => text.push_str(said),
            Some(other) => text.push_str(&other.to_string()),
        }
        rest = behind;
    }
    text.push_str(rest);
    text
}

fn found<'a>(body: &'a Value, path: &str) -> Option<&'a Value> {
    let steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
    steps.into_iter().try_fold(body, |at, step| match at {
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        other => other.get(step),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_template_takes_what_the_body_says() {
        let body = json!({"a": {"b": [{"c": "x"}, 2]}, "n": null, "evil": "{{a.b}}"});
        for (template, text) in [
            ("{{a.b[0].c}}-{{ payload.a.b[1] }}", "x-2"),
            ("{{nope}}{{n}}.", "."),
            ("{{a.b}}", "[{\"c\":\"x\"},2]"),
            ("{{evil}}", "{{a.b}}"),
            ("{{open", "{{open"),
            ("plain", "plain"),
        ] {
            assert_eq!(filled(template, &body), text, "{template}");
        }
    }

    #[test]
    fn a_mapping_is_found_by_name_and_source() {
        let mut hooks = Hooks::new(Secret::new("t"));
        let mapping = |path: Option<&str>, source: Option<&str>| HookMapping {
            path: path.map(str::to_owned),
            source: source.map(str::to_owned),
            ..HookMapping::default()
        };
        hooks.mappings = vec![mapping(Some("a"), Some("s")), mapping(Some("a"), None), mapping(None, Some("any"))];
        let at = |name: &str, body: Value| {
            hooks.mapping(name, &body).map(|found| (found.path.clone(), found.source.clone()))
        };
        assert_eq!(at("a", json!({"source": "s"})).unwrap().1.as_deref(), Some("s"));
        assert_eq!(at("a", json!({})).unwrap().1, None);
        assert_eq!(at("b", json!({"source": "any"})).unwrap().0, None);
        assert_eq!(at("b", json!({})), None);
        assert_eq!(
            (hooks.below("/hooks/wake"), hooks.below("/hooks"), hooks.below("/hooksx")),
            (Some("wake"), Some(""), None)
        );
    }
}
