//! Calling plugins by name: methods, tools, hooks, webhooks, routes, deliveries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use leanclaw_types::message::{Inbound, Outbound, Place, Receipt, Received};
use leanclaw_types::plugin::{MethodSpec, ToolOutput, ToolSpec};
use leanclaw_types::{Caller, Failure, PluginKey};
use serde_json::Value;

use crate::actor::Role;
use crate::calls::{Action, GuestCall, GuestReply, HookDecision, WebhookReply, WebhookRequest};
use crate::convert;
use crate::runtime::{Plugins, unknown};
use crate::state::CallContext;
use crate::table::{MethodEntry, Ready, ToolEntry};

fn unexpected() -> Failure {
    Failure::internal("The guest answered another call than the one it was asked.")
}

/// A plugin whose answer breaks its own schema.
fn broken_answer(plugin: &PluginKey, what: &str, failure: &Failure) -> Failure {
    Failure::internal(format!("The plugin `{plugin}` broke its own schema in {what}: {}.", failure.message))
        .hint(format!("leanclaw plugin logs {plugin}"))
}

/// A gateway method as it was found. It stays the one whose scope was looked at: a call goes to that version of its plugin
/// also when another has taken its place.
pub struct Method(Arc<MethodEntry>);

impl Method {
    /// The scope a caller needs.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.0.spec.scope
    }

    /// Calls it with JSON text and gives JSON text. Whether the caller holds the scope is the gateway's to check.
    ///
    /// # Errors
    /// `invalid-input` when the parameters do not fit the schema, `unavailable` when the plugin was taken away or rights of
    /// it were taken back, what the plugin answers, or what became of the call.
    pub async fn call(&self, params: &str, context: CallContext) -> Result<String, Failure> {
        let MethodEntry { spec, name, params: wanted, result: promised, unit, .. } = &*self.0;
        if !wanted.is_trivial() {
            wanted.check_text(format_args!("{} params", spec.shown()), params)?;
        }
        let call = GuestCall::Method { name: Arc::clone(name), params: params.to_owned() };
        let GuestReply::Json(result) = unit.call(Role::Calls, call, context).await? else {
            return Err(unexpected());
        };
        // Also a trivial schema wants JSON: the text is spliced into a frame as it is.
        promised
            .check_text("result", &result)
            .map_err(|failure| broken_answer(&unit.shared().key, &spec.wire_name(), &failure))?;
        Ok(result)
    }
}

impl Plugins {
    /// Every gateway method that can be called, sorted by its name on the wire.
    #[must_use]
    pub fn methods(&self) -> Vec<MethodSpec> {
        let mut specs: Vec<MethodSpec> =
            self.inner.table.load().methods.values().map(|entry| entry.spec.clone()).collect();
        specs.sort_by_key(MethodSpec::wire_name);
        specs
    }

    /// The method `<plugin>.<method>`, as it is now.
    #[must_use]
    pub fn method(&self, wire_name: &str) -> Option<Method> {
        self.inner.table.load().methods.get(wire_name).map(|entry| Method(Arc::clone(entry)))
    }

    /// Looks a method up and calls it, whatever its scope is.
    ///
    /// # Errors
    /// `not-found`, or as [`Method::call`].
    pub async fn call_method(&self, wire_name: &str, params: &str, context: CallContext) -> Result<String, Failure> {
        let method = self.method(wire_name).ok_or_else(|| {
            Failure::not_found(format!("No plugin serves the method `{wire_name}`."))
                .hint("leanclaw plugin list shows what is there, and why something is not ready")
        })?;
        method.call(params, context).await
    }

    /// Every tool that can be called, sorted by name.
    #[must_use]
    pub fn tools(&self) -> Vec<ToolSpec> {
        self.inner.table.load().tools.values().map(|entry| entry.spec.clone()).collect()
    }

    /// Calls a tool with JSON text.
    ///
    /// # Errors
    /// `not-found`, `invalid-input` when the input does not fit the schema, `denied` when a hook says so, what the plugin
    /// answers, or what became of the call. A tool that ran and says it failed is not an error: see
    /// [`ToolOutput::is_error`].
    pub async fn invoke_tool(&self, tool: &str, input: &str, context: CallContext) -> Result<ToolOutput, Failure> {
        let entry = self.inner.table.load().tools.get(tool).cloned();
        let entry = entry.ok_or_else(|| {
            Failure::not_found(format!("Tool not available: {tool}")).hint("tools.catalog lists the tools there are")
        })?;
        entry.input.check_text(format_args!("input of tool {tool}"), input)?;
        let input = self.before_tool_call(&entry, input, &context).await?;
        let call = GuestCall::Tool { name: Arc::clone(&entry.name), input };
        let GuestReply::Tool(raw) = entry.unit.call(Role::Calls, call, context.clone()).await? else {
            return Err(unexpected());
        };
        let mut output = raw.output;
        let key = &entry.unit.shared().key;
        let what = format!("tool {tool}");
        if let Some(text) = raw.structured {
            if let Some(schema) = entry.output.as_ref().filter(|_| !output.is_error) {
                schema.check_text("output", &text).map_err(|failure| broken_answer(key, &what, &failure))?;
            }
            let parsed = serde_json::from_str(&text)
                .map_err(|error| broken_answer(key, &what, &Failure::invalid(format!("not JSON: {error}"))))?;
            output.structured = Some(parsed);
        }
        self.after_tool_call(&entry, output, &context).await
    }

    async fn before_tool_call(&self, entry: &ToolEntry, input: &str, context: &CallContext) -> Result<String, Failure> {
        if !self.has_hook("before-tool-call") {
            return Ok(input.to_owned());
        }
        let input: Value = serde_json::from_str(input).map_err(|error| Failure::invalid(error.to_string()))?;
        let payload = serde_json::json!({ "tool": entry.spec.name, "input": input });
        let payload = self.hook("before-tool-call", payload, context).await?;
        let Some(rewritten) = payload.get("input").filter(|rewritten| **rewritten != input) else {
            return Ok(input.to_string());
        };
        entry.input.check(rewritten).map_err(|problem| {
            Failure::invalid(format!("A hook made the input of the tool `{}` unusable: {problem}.", entry.spec.name))
                .hint("leanclaw plugin revoke ID hook:before-tool-call keeps a hook from tool calls")
        })?;
        Ok(rewritten.to_string())
    }

    async fn after_tool_call(
        &self,
        entry: &ToolEntry,
        output: ToolOutput,
        context: &CallContext,
    ) -> Result<ToolOutput, Failure> {
        if !self.has_hook("after-tool-call") {
            return Ok(output);
        }
        let payload = serde_json::json!({
            "tool": entry.spec.name, "structured": output.structured, "text": output.text, "isError": output.is_error
        });
        let payload = self.hook("after-tool-call", payload, context).await?;
        let text = payload.get("text").and_then(Value::as_str).map(str::to_owned);
        let structured = payload.get("structured").filter(|value| !value.is_null()).cloned();
        if let (Some(schema), Some(rewritten)) = (entry.output.as_ref().filter(|_| !output.is_error), &structured) {
            schema.check(rewritten).map_err(|problem| {
                let name = &entry.spec.name;
                Failure::internal(format!("An after-tool-call hook made the output of `{name}` unusable: {problem}."))
                    .hint("leanclaw plugin revoke ID hook:after-tool-call keeps a hook from tool calls")
            })?;
        }
        Ok(ToolOutput { structured, text, ..output })
    }

    fn hooks(&self, event: &str) -> Vec<Ready> {
        let table = self.inner.table.load();
        let wants = |ready: &&Ready| {
            ready.description.hooks.iter().any(|hook| hook == event)
                && ready.unit.shared().granted.hooks.iter().any(|hook| hook == event)
        };
        table.units.values().filter(wants).cloned().collect()
    }

    fn has_hook(&self, event: &str) -> bool {
        !self.hooks(event).is_empty()
    }

    /// Runs every hook that wants `event`, in the order of plugin ids, each on what the one before left. A hook that
    /// fails is passed over and logged; only a verdict changes anything.
    ///
    /// # Errors
    /// `denied` when a hook says `deny` or `skip`, with its reason.
    pub async fn hook(&self, event: &str, payload: Value, context: &CallContext) -> Result<Value, Failure> {
        self.ask_hooks(self.hooks(event), event, payload, context).await
    }

    async fn ask_hooks(
        &self,
        hooks: Vec<Ready>,
        event: &str,
        mut payload: Value,
        context: &CallContext,
    ) -> Result<Value, Failure> {
        for ready in hooks {
            let key = &ready.unit.shared().key;
            let decision = match self.ask_hook(&ready, event, &payload, context).await {
                Ok(decision) => decision,
                Err(failure) => {
                    tracing::warn!(plugin = %key, event, "hook failed and was passed over: {failure}");
                    continue;
                }
            };
            match decision.verdict.as_str() {
                "replace" => payload = decision.payload.unwrap_or(payload),
                "deny" | "skip" => {
                    let reason = decision.reason.unwrap_or_else(|| "no reason given".into());
                    let message = format!("The plugin `{key}` said {} to `{event}`: {reason}", decision.verdict);
                    return Err(Failure::denied(message).hint(format!("leanclaw plugin revoke {key} hook:{event}")));
                }
                _ => {}
            }
        }
        Ok(payload)
    }

    /// Runs the hooks on a message that came in, except those of the plugin that hands it in: it knows what it says, and
    /// may be busy with just that. A rewrite may change the message, not its id nor what the host vouches for.
    ///
    /// # Errors
    /// `denied` when a hook says `deny` or `skip`; `internal` when a rewrite is no message.
    pub(crate) async fn message_received(&self, mut received: Received) -> Result<Received, Failure> {
        const EVENT: &str = "message-received";
        let is_own = |ready: &Ready| ready.unit.shared().key.plugin == received.plugin;
        let hooks: Vec<Ready> = self.hooks(EVENT).into_iter().filter(|ready| !is_own(ready)).collect();
        if hooks.is_empty() {
            return Ok(received);
        }
        let payload = serde_json::to_value(&received).map_err(|error| Failure::internal(error.to_string()))?;
        let mut context = CallContext::of(Caller::host("inbox"));
        context.is_about_message = true;
        let mut payload = self.ask_hooks(hooks, EVENT, payload, &context).await?;
        let message = payload.get_mut("message").map(Value::take).unwrap_or_default();
        let mut message: Inbound = serde_json::from_value(message).map_err(|error| {
            Failure::internal(format!("A hook made the message unreadable: {error}."))
                .hint("leanclaw plugin revoke ID hook:message-received keeps a hook from messages")
        })?;
        message.id = received.message.id;
        received.message = message;
        Ok(received)
    }

    pub(crate) async fn ask_hook(
        &self,
        ready: &Ready,
        event: &str,
        payload: &Value,
        context: &CallContext,
    ) -> Result<HookDecision, Failure> {
        let call = GuestCall::Hook { event: event.into(), payload: payload.to_string() };
        let GuestReply::Hook(decision) = ready.unit.call(Role::Hooks, call, context.clone()).await? else {
            return Err(unexpected());
        };
        let payload =
            match decision.payload {
                None => None,
                Some(text) => {
                    let parsed = serde_json::from_str(&text);
                    Some(parsed.map_err(|error| {
                        Failure::invalid(format!("the payload of its decision is not JSON: {error}"))
                    })?)
                }
            };
        let reason = decision.reason.map(|reason| crate::logs::escape(crate::logs::cut(&reason, 1000)));
        Ok(HookDecision { verdict: decision.verdict, reason, payload })
    }

    fn ready(&self, key: &PluginKey) -> Result<Ready, Failure> {
        if let Some(ready) = self.inner.table.load().units.get(key) {
            return Ok(ready.clone());
        }
        let info = self.inspect(key)?;
        let mut failure =
            Failure::unavailable(format!("The plugin `{key}` is {}: {}", info.state.as_str(), info.reason));
        failure.retryable = info.state == leanclaw_types::plugin::PluginState::Loading;
        Err(failure)
    }

    /// A ready plugin that exports `export` and was granted it.
    fn granted(
        &self,
        key: &PluginKey,
        export: &str,
        item: &str,
        granted: impl Fn(&Ready) -> bool,
    ) -> Result<Ready, Failure> {
        let ready = self.ready(key)?;
        if !ready.description.interfaces.served_exports().contains(&export) {
            return Err(unknown_export(key, export));
        }
        if !granted(&ready) {
            return Err(Failure::denied(format!(
                "The plugin `{key}` may not be reached that way: `{item}` is not granted."
            ))
            .hint(format!("leanclaw plugin grant {key} {item}")));
        }
        Ok(ready)
    }

    /// Whether a plugin takes webhooks now, for a caller who has not read the request yet.
    ///
    /// # Errors
    /// `not-found`, `unavailable`, or `denied` without the `webhook` grant.
    pub fn takes_webhooks(&self, key: &PluginKey) -> Result<(), Failure> {
        self.granted(key, "webhook", "webhook", |ready| ready.unit.shared().granted.webhook).map(drop)
    }

    /// Hands an HTTP request to a plugin's `webhook`.
    ///
    /// # Errors
    /// `not-found`, `denied` without the `webhook` grant, or what became of the call.
    pub async fn webhook(
        &self,
        key: &PluginKey,
        request: WebhookRequest,
        context: CallContext,
    ) -> Result<WebhookReply, Failure> {
        let ready = self.granted(key, "webhook", "webhook", |ready| ready.unit.shared().granted.webhook)?;
        let call = GuestCall::Webhook(Box::new(request));
        let GuestReply::Webhook(reply) = ready.unit.call(Role::Inbound, call, context).await? else {
            return Err(unexpected());
        };
        let broken = |problem: String| {
            Failure::internal(format!("The plugin `{key}` answered with {problem}."))
                .hint(format!("leanclaw plugin logs {key}"))
        };
        let headers =
            convert::header_map(&reply.headers).map_err(|problem| broken(format!("a bad header: {problem}")))?;
        if !(200..=599).contains(&reply.status) {
            return Err(broken(format!("the status {}, which is none of 200 to 599", reply.status)));
        }
        Ok(WebhookReply { status: reply.status, headers, body: reply.body.into() })
    }

    /// Hands an HTTP request to a plugin's own routes (`wasi:http/incoming-handler`).
    ///
    /// # Errors
    /// `not-found`, `denied` without the `http-routes` grant, or what became of the call.
    pub async fn http_route(
        &self,
        key: &PluginKey,
        request: http::Request<bytes::Bytes>,
        context: CallContext,
    ) -> Result<http::Response<bytes::Bytes>, Failure> {
        let ready = self.granted(key, "http", "http-routes", |ready| ready.unit.shared().granted.http_routes)?;
        let call = GuestCall::Http(Box::new(request));
        let GuestReply::Http(response) = ready.unit.call(Role::Calls, call, context).await? else {
            return Err(unexpected());
        };
        Ok(*response)
    }

    /// Sends a message through a channel plugin. The same idempotency key sends once, by the plugin's contract.
    ///
    /// # Errors
    /// `not-found`, `denied` when a hook says so, what the plugin answers (with its advice about retrying), or what
    /// became of the call.
    pub async fn deliver(&self, key: &PluginKey, message: Outbound, context: CallContext) -> Result<Receipt, Failure> {
        let ready = self.granted(key, "channel", "channel", |_| true)?;
        let message = self.before_send(message, &context).await?;
        let call = GuestCall::Deliver(Box::new(message));
        let GuestReply::Receipt(receipt) = ready.unit.call(Role::Outbound, call, context).await? else {
            return Err(unexpected());
        };
        Ok(receipt)
    }

    async fn before_send(&self, message: Outbound, context: &CallContext) -> Result<Outbound, Failure> {
        if !self.has_hook("before-send") {
            return Ok(message);
        }
        let payload = serde_json::to_value(&message).map_err(|error| Failure::internal(error.to_string()))?;
        let payload = self.hook("before-send", payload, context).await?;
        let mut rewritten: Outbound = serde_json::from_value(payload).map_err(|error| {
            Failure::internal(format!("A hook made the message unreadable: {error}."))
                .hint("leanclaw plugin revoke ID hook:before-send keeps a hook from messages")
        })?;
        // A hook may change what is said, not what counts as the same message.
        rewritten.idempotency_key = message.idempotency_key;
        Ok(rewritten)
    }

    /// Asks a channel for one of its optional abilities.
    ///
    /// # Errors
    /// `unsupported` when the channel does not list it, else as [`Plugins::deliver`].
    pub async fn perform(
        &self,
        key: &PluginKey,
        action: &str,
        place: Place,
        arguments: &Value,
        context: CallContext,
    ) -> Result<Value, Failure> {
        let ready = self.granted(key, "channel-actions", "channel", |_| true)?;
        let listed = ready
            .description
            .channel
            .as_ref()
            .is_some_and(|channel| channel.abilities.iter().any(|ability| ability == action));
        if !listed {
            let abilities = ready.description.channel.as_ref().map(|channel| channel.abilities.join(", "));
            let message = format!("The channel of `{key}` does not list the ability `{action}`.");
            return Err(Failure::new("unsupported", message)
                .hint(format!("it lists: {}", crate::logs::escape(&abilities.unwrap_or_default()))));
        }
        let call =
            GuestCall::Perform(Box::new(Action { name: action.into(), place, arguments: arguments.to_string() }));
        let GuestReply::Json(result) = ready.unit.call(Role::Outbound, call, context).await? else {
            return Err(unexpected());
        };
        serde_json::from_str(&result)
            .map_err(|error| broken_answer(key, action, &Failure::invalid(format!("not JSON: {error}"))))
    }

    /// Channels that can be used: plugin, account and what the channel says of itself.
    #[must_use]
    pub fn channels(&self) -> Vec<(PluginKey, crate::ChannelDescription)> {
        let table = self.inner.table.load();
        let described =
            table.units.iter().filter_map(|(key, ready)| Some((key.clone(), ready.description.channel.clone()?)));
        described.collect()
    }

    /// Channels that run and cannot reach their service, with the channel's id: what polls it or holds its WebSocket failed
    /// several times in a row, and is tried again.
    #[must_use]
    pub fn cut_off_channels(&self) -> Vec<(PluginKey, String)> {
        let table = self.inner.table.load();
        let is_cut_off = |ready: &&Ready| ready.unit.cut_off.load(Ordering::Relaxed) > 0;
        let cut_off = table.units.iter().filter(|(_, ready)| is_cut_off(ready));
        cut_off.filter_map(|(key, ready)| Some((key.clone(), ready.description.channel.as_ref()?.id.clone()))).collect()
    }
}

fn unknown_export(key: &PluginKey, export: &str) -> Failure {
    let failure = unknown(key);
    Failure {
        message: format!("The plugin `{key}` exports no `{export}`."),
        hints: vec![format!("leanclaw plugin inspect {key}")],
        ..failure
    }
}
