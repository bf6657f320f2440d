//! `leanclaw plugin run`: one call of a plugin that need not be installed.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args};
use leanclaw_plugin::{CallContext, Plugins, WebhookRequest};
use leanclaw_types::failure::code;
use leanclaw_types::message::{Outbound, Place};
use leanclaw_types::permission::Permissions;
use leanclaw_types::plugin::{PluginState, ToolOutput};
use leanclaw_types::{Failure, PluginKey};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::admin::operator;
use crate::author::bundle::Bundle;
use crate::author::scratch::Scratch;
use crate::config::Config;
use crate::output;
use crate::report::Advice;

/// How often the guest's log is looked at while it runs.
const LOG_INTERVAL: Duration = Duration::from_millis(100);
/// The most that is read as input; a gateway takes no larger frame.
const MAX_INPUT_BYTES: u64 = 25 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true)))]
pub(crate) struct Run {
    /// The plugin's folder or its .wasm
    path: PathBuf,
    /// Call this tool
    #[arg(long, value_name = "NAME", group = "what")]
    tool: Option<String>,
    /// Call this gateway method, with or without the plugin's id in front
    #[arg(long, value_name = "NAME", group = "what")]
    method: Option<String>,
    /// Hand in an HTTP request: {"method", "path", "query", "headers", "body"}, as JSON, @FILE or -
    #[arg(long, value_name = "REQUEST", group = "what")]
    webhook: Option<String>,
    /// Deliver a message: {"place", "parts", "idempotencyKey"}, as JSON, @FILE or -
    #[arg(long, value_name = "MESSAGE", group = "what")]
    deliver: Option<String>,
    /// Ask a channel for one of its abilities: {"action", "place", "arguments"}, as JSON, @FILE or -
    #[arg(long, value_name = "REQUEST", group = "what")]
    action: Option<String>,
    /// What the tool or method gets: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", default_value = "{}", conflicts_with_all = ["webhook", "deliver", "action"])]
    input: String,
    /// Give it everything its manifest asks for, for this one call; HTTP requests are really made then
    #[arg(long)]
    grant_all: bool,
    /// Accepted as everywhere else: the answer is JSON with it and without it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, arguments: &Run) -> Result<()> {
    let call = Call::read(arguments)?;
    let bundle = Bundle::open(&arguments.path)?;
    let asked = &bundle.manifest.asked();
    // Limits give no way to the outside, and without them the author would see another program than the admin.
    let limits = asked.limits.clone();
    let granted = if arguments.grant_all { asked.clone() } else { Permissions { limits, ..Permissions::default() } };
    let scratch = output::noted(Scratch::load(&bundle, config, granted), "Compiling the component ...").await?;
    let answer = match ready(&scratch, arguments.grant_all, asked) {
        Ok(()) => {
            let answer = followed(&scratch, call.make(scratch.plugins(), &scratch.key)).await;
            answer.map_err(|failure| with_advice(failure, scratch.plugins(), arguments.grant_all, asked))
        }
        Err(error) => Err(error),
    };
    scratch.close().await;
    output::json(&answer?)
}

/// What is called, with its input read and understood.
enum Call {
    Tool(String, String),
    Method(String, String),
    Webhook(Box<WebhookRequest>),
    Deliver(Box<Outbound>),
    Perform(Box<TypedAction>),
}

/// What a channel is asked to do besides sending, as it is typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedAction {
    action: String,
    place: Place,
    #[serde(default)]
    arguments: Value,
}

/// A request as it is typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedRequest {
    #[serde(default = "post")]
    method: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    query: String,
    #[serde(default)]
    headers: Map<String, Value>,
    /// Text as it is; anything else as JSON.
    #[serde(default)]
    body: Value,
}

fn post() -> String {
    "POST".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

impl TypedRequest {
    fn request(self) -> Result<WebhookRequest> {
        let mut headers = http::HeaderMap::new();
        for (name, value) in &self.headers {
            let name: http::HeaderName = name.parse().with_context(|| format!("`{name}` is not a header's name"))?;
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            headers.append(name, value.parse().context("a header's value is not valid")?);
        }
        let body = match self.body {
            Value::Null => String::new(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(WebhookRequest {
            method: self.method.to_uppercase(),
            path: self.path,
            query: self.query,
            headers,
            body: body.into(),
            remote: "127.0.0.1:0".to_owned(),
        })
    }
}

impl Call {
    fn read(arguments: &Run) -> Result<Self> {
        if let Some(tool) = &arguments.tool {
            return Ok(Self::Tool(tool.clone(), json_text(&arguments.input)?));
        }
        if let Some(method) = &arguments.method {
            return Ok(Self::Method(method.clone(), json_text(&arguments.input)?));
        }
        if let Some(request) = &arguments.webhook {
            let typed: TypedRequest = serde_json::from_str(&json_text(request)?).context("that is no request")?;
            return Ok(Self::Webhook(Box::new(typed.request()?)));
        }
        if let Some(action) = &arguments.action {
            return Ok(Self::Perform(serde_json::from_str(&json_text(action)?).context("that is no action")?));
        }
        let message = json_text(arguments.deliver.as_deref().unwrap_or_default())?;
        Ok(Self::Deliver(Box::new(serde_json::from_str(&message).context("that is no message")?)))
    }

    async fn make(self, plugins: &Plugins, key: &PluginKey) -> Result<Value, Failure> {
        let context = CallContext::of(operator());
        match self {
            Self::Tool(name, input) => plugins.invoke_tool(&name, &input, context).await.map(|output| shown(&output)),
            Self::Method(name, params) => {
                let own = format!("{}.", key.plugin);
                let wire_name = if name.starts_with(&own) { name } else { format!("{own}{name}") };
                let result = plugins.call_method(&wire_name, &params, context).await?;
                serde_json::from_str(&result).map_err(|error| Failure::internal(error.to_string()))
            }
            Self::Webhook(request) => {
                let reply = plugins.webhook(key, *request, context).await?;
                let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned().into())
                };
                let headers: Map<String, Value> = reply.headers.iter().map(header).collect();
                let body = String::from_utf8_lossy(&reply.body);
                Ok(json!({"status": reply.status, "headers": headers, "body": body}))
            }
            Self::Deliver(message) => {
                let receipt = plugins.deliver(key, *message, context).await?;
                serde_json::to_value(receipt).map_err(|error| Failure::internal(error.to_string()))
            }
            Self::Perform(asked) => {
                let TypedAction { action, place, arguments } = *asked;
                plugins.perform(key, &action, place, &arguments, context).await
            }
        }
    }
}

/// A tool's output with its files' sizes instead of their bytes.
fn shown(output: &ToolOutput) -> Value {
    let files: Vec<Value> =
        output.files.iter().map(|file| json!({"mediaType": file.media_type, "bytes": file.data.len()})).collect();
    let mut shown = json!({"isError": output.is_error});
    if let Some(fields) = shown.as_object_mut() {
        fields.extend(output.text.iter().map(|text| ("text".to_owned(), json!(text))));
        fields.extend(output.structured.iter().map(|value| ("structured".to_owned(), value.clone())));
        fields.extend((!files.is_empty()).then(|| ("files".to_owned(), json!(files))));
    }
    shown
}

/// JSON as typed, from a file (`@FILE`) or from standard input (`-`).
fn json_text(given: &str) -> Result<String> {
    let (text, place) = match given.strip_prefix('@') {
        Some(file) => (bounded(std::fs::File::open(file), Path::new(file))?, file.to_owned()),
        None if given == "-" => {
            (bounded(Ok(std::io::stdin()), Path::new("standard input"))?, "standard input".to_owned())
        }
        None => (given.to_owned(), "the command line".to_owned()),
    };
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        let hint = r#"quote it for the shell: --input '{"text": "milk"}', or name a file: --input @input.json"#;
        return Err(Advice::new(format!("the input from {place} is not JSON: {error}")).hint(hint).into());
    }
    Ok(text)
}

fn bounded(opened: std::io::Result<impl std::io::Read>, place: &Path) -> Result<String> {
    let mut text = String::new();
    let read = opened.and_then(|input| input.take(MAX_INPUT_BYTES + 1).read_to_string(&mut text));
    let length = read.with_context(|| format!("{} cannot be read", place.display()))?;
    if u64::try_from(length).is_ok_and(|length| length > MAX_INPUT_BYTES) {
        return Err(Advice::new(format!("{} has more than {MAX_INPUT_BYTES} bytes", place.display())).into());
    }
    Ok(text)
}

/// Whether the plugin can be called as it is.
fn ready(scratch: &Scratch, all_granted: bool, asked: &Permissions) -> Result<()> {
    let info = scratch.info()?;
    if info.state == PluginState::Ready {
        return Ok(());
    }
    let missing: Vec<String> = asked.items().into_iter().collect();
    if info.state == PluginState::NeedsGrant && !all_granted && !missing.is_empty() {
        let message = format!("`{}` does not run without rights; it asks for: {}", info.id, missing.join(", "));
        return Err(Advice::new(message).hint("give it all of them for this one call with --grant-all").into());
    }
    Err(Advice::new(format!("`{}` cannot be run: {}", info.id, info.reason))
        .hint("leanclaw plugin check says more")
        .into())
}

/// A failed call, with advice for a plugin that is not installed.
fn with_advice(failure: Failure, plugins: &Plugins, all_granted: bool, asked: &Permissions) -> anyhow::Error {
    let mut failure = failure;
    // Nothing is stored, installed or served here, so these would lead nowhere.
    let elsewhere = ["leanclaw plugin grant", "leanclaw plugin logs", "leanclaw plugin list", "tools.catalog"];
    failure.hints.retain(|hint| !elsewhere.iter().any(|command| hint.contains(command)));
    if failure.code == code::NOT_FOUND {
        let tools = plugins.tools().into_iter().map(|tool| format!("--tool {}", tool.name));
        let methods = plugins.methods().into_iter().map(|method| format!("--method {}", method.name));
        failure = failure.hint(format!("it has: {}", tools.chain(methods).collect::<Vec<_>>().join(", ")));
    }
    if !all_granted && !asked.items().is_empty() {
        failure = failure.hint("nothing is granted to it here; --grant-all gives it what its manifest asks for");
    }
    failure.into()
}

/// Makes the call and shows what the guest logs meanwhile.
async fn followed<T>(scratch: &Scratch, call: impl Future<Output = T>) -> T {
    tokio::pin!(call);
    let mut last_seq = None;
    loop {
        tokio::select! {
            answer = &mut call => {
                show_logs(scratch, &mut last_seq);
                return answer;
            }
            () = tokio::time::sleep(LOG_INTERVAL) => show_logs(scratch, &mut last_seq),
        }
    }
}

fn show_logs(scratch: &Scratch, last_seq: &mut Option<u64>) {
    for line in scratch.plugins().logs(&scratch.key.plugin, *last_seq, 5000).unwrap_or_default() {
        output::note(&format!("{:<5} {}: {}", line.level, line.source, line.message));
        *last_seq = Some(line.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    #[test]
    fn input_comes_from_where_it_is_said_to_be() {
        let temporary = tempfile::tempdir().unwrap();
        let file = temporary.path().join("input.json");
        std::fs::write(&file, "[1]").unwrap();
        assert_eq!(json_text(r#"{"a": 1}"#).unwrap(), r#"{"a": 1}"#);
        assert_eq!(json_text(&format!("@{}", file.display())).unwrap(), "[1]");
        assert!(Report::of(&json_text("{a: 1}").unwrap_err()).hints[0].contains("--input"));
        assert!(json_text("@/no/such/file").is_err());
    }

    #[test]
    fn a_request_needs_nothing_but_what_matters() {
        let read = |text: &str| serde_json::from_str::<TypedRequest>(text).unwrap().request();
        let request = read(r#"{"headers": {"X-A": "b"}, "body": {"n": 1}}"#).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/"));
        assert_eq!((&request.headers["x-a"], &request.body[..]), (&"b".parse().unwrap(), &br#"{"n":1}"#[..]));
        assert_eq!(&read(r#"{"method": "get", "body": "text"}"#).unwrap().body[..], b"text");
        assert!(read(r#"{"headers": {"a b": "c"}}"#).is_err());
    }
}
