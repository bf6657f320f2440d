//! What agents think with, and where they run.

use std::fmt;
use std::time::Duration;

use leanclaw_types::redact::Secret;
use serde_json::Value;
use url::Url;

use super::layer::Source;
use super::resolve::Reader;
use super::value;
use super::variables::{self, Variable};

/// What agents think with, and where they run.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentsConfig {
    /// Anthropic's models; none without a key.
    pub anthropic: Option<AnthropicConfig>,
    /// A server that speaks OpenAI's format; none without an address.
    pub local: Option<LocalConfig>,
    /// The model where a session names none: `model` or `provider/model`. None leaves it to the provider.
    pub model: Option<String>,
    /// Where they run.
    pub sandbox: SandboxChoice,
    /// Runs that go on at once, 1 to 1000.
    pub max_concurrent: u32,
    /// How long one run may take.
    pub run_timeout: Duration,
}

/// How Anthropic's models are reached.
#[derive(Debug, Clone, PartialEq)]
pub struct AnthropicConfig {
    /// The key.
    pub api_key: Secret,
    /// Where they are asked.
    pub base_url: Url,
}

/// How a server that speaks OpenAI's format is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalConfig {
    /// Where it is.
    pub base_url: Url,
    /// The key; none for a server that asks for none.
    pub api_key: Option<Secret>,
    /// The model; none leaves it to the server.
    pub model: Option<String>,
}

/// Where agents run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxChoice {
    /// In what there is.
    Auto,
    /// In the embedded WASI sandbox.
    Wasm,
}

impl fmt::Display for SandboxChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Wasm => "wasm",
        })
    }
}

impl Reader<'_> {
    /// Reads the settings of agents.
    pub(super) fn agents(&mut self) -> Option<AgentsConfig> {
        let api_key = self.credential(&variables::ANTHROPIC_API_KEY);
        let base_url = self.read(&variables::ANTHROPIC_BASE_URL, base_url);
        let local = self.local();
        let model = self.model(&variables::MODEL);
        let sandbox = self.read(&variables::SANDBOX, sandbox);
        let max_concurrent = self.read(&variables::MAX_CONCURRENT, |given| {
            value::whole_number(given, 1, 1000).and_then(|count| u32::try_from(count).ok())
        });
        let run_timeout_ms = self.read(&variables::RUN_TIMEOUT, |given| value::whole_number(given, 1000, 86_000_000));
        let anthropic = match api_key {
            None => None,
            Some(api_key) => Some(AnthropicConfig { api_key: api_key?, base_url: base_url.clone()? }),
        };
        base_url?;
        Some(AgentsConfig {
            anthropic,
            local: local?,
            model: model?,
            sandbox: sandbox?,
            max_concurrent: max_concurrent?,
            run_timeout: Duration::from_millis(run_timeout_ms?),
        })
    }

    /// The outer option is none when something is wrong.
    fn local(&mut self) -> Option<Option<LocalConfig>> {
        let api_key = self.credential(&variables::LOCAL_LLM_API_KEY);
        let model = self.model(&variables::LOCAL_LLM_MODEL);
        let variable = &variables::LOCAL_LLM_BASE_URL;
        let Some(raw) = self.layer.get(variable).cloned() else {
            self.note(variable, None, Source::Default);
            return Some(None);
        };
        let base_url = self.check(variable, &raw, |given, _| base_url(given), ToString::to_string)?;
        let api_key = match api_key {
            None => None,
            Some(api_key) => Some(api_key?),
        };
        Some(Some(LocalConfig { base_url, api_key, model: model? }))
    }

    fn model(&mut self, variable: &'static Variable) -> Option<Option<String>> {
        let Some(raw) = self.layer.get(variable).cloned() else {
            self.note(variable, None, Source::Default);
            return Some(None);
        };
        self.check(variable, &raw, |given, _| model(given), Clone::clone).map(Some)
    }
}

fn sandbox(given: &Value) -> Option<SandboxChoice> {
    value::choice(given, &[("auto", SandboxChoice::Auto), ("wasm", SandboxChoice::Wasm)])
}

fn model(given: &Value) -> Option<String> {
    let name = given.as_str()?.trim();
    let is_name = (1..=200).contains(&name.len()) && name.chars().all(|character| character.is_ascii_graphic());
    is_name.then(|| name.to_owned())
}

fn base_url(given: &Value) -> Option<Url> {
    let url = Url::parse(given.as_str()?.trim()).ok()?;
    let is_plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    (matches!(url.scheme(), "http" | "https") && url.host().is_some() && is_plain).then_some(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_is_one_that_can_be_asked() {
        for good in ["https://api.example.com", "http://127.0.0.1:8080/proxy"] {
            assert!(base_url(&json!(good)).is_some(), "{good}");
        }
        for bad in ["", "api.example.com", "ftp://x", "https://u:p@x", "https://x/?a", "https://x/#a", "unix:/a"] {
            assert!(base_url(&json!(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_model_is_one_word() {
        assert_eq!(model(&json!(" anthropic/claude-x ")).as_deref(), Some("anthropic/claude-x"));
        for bad in [json!(""), json!("two words"), json!(7), json!("x".repeat(201))] {
            assert!(model(&bad).is_none(), "{bad}");
        }
    }
}
