//! The methods the gateway itself answers. A method is one entry in [`TABLE`] and one handler in its family's file.

pub(crate) mod agent;
pub(crate) mod agents;
pub(crate) mod approvals;
pub(crate) mod channels;
pub(crate) mod chat;
pub(crate) mod config;
pub(crate) mod cost;
pub(crate) mod decisions;
pub(crate) mod devices;
pub(crate) mod groups;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod machine;
pub(crate) mod models;
pub(crate) mod nodes;
pub(crate) mod none;
mod pictures;
pub(crate) mod plugins;
mod questions;
pub(crate) mod send;
pub(crate) mod sessions;
pub(crate) mod skills;
pub(crate) mod status;
pub(crate) mod system;
pub(crate) mod tools;
pub(crate) mod voicewake;
pub(crate) mod workspace;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::connection::{Answer, Call, Outcome};
use crate::gateway::State;
use crate::handshake::Session;
use crate::phrase::Shape;

/// The scope that satisfies every other.
pub(crate) const ADMIN: &str = "operator.admin";
pub(crate) const READ: &str = "operator.read";
const QUESTIONS: &str = "operator.questions";
pub(crate) const WRITE: &str = "operator.write";
pub(crate) const APPROVALS: &str = "operator.approvals";
pub(crate) const PAIRING: &str = "operator.pairing";

/// The parameters of a method that takes none.
static NOTHING: LazyLock<Shape> = LazyLock::new(|| Shape::of_properties(&[]));

/// What a caller needs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    /// Nothing beyond a connection, of an operator or a node.
    Open,
    /// To be a node.
    Node,
    /// This scope.
    Needs(&'static str),
    /// It depends on what is asked: the handler decides, with [`Call::require`].
    Depends,
}

/// One method.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    pub(crate) handler: fn(&Call<'_>) -> Result<Answer, ErrorShape>,
    /// The version that has it, when only one does.
    only: Option<ProtocolVersion>,
}

impl Method {
    /// Whether a connection of that version has it.
    pub(crate) fn is_in(&self, version: ProtocolVersion) -> bool {
        self.only.is_none_or(|only| only == version)
    }
}

const fn method(name: &'static str, scope: Scope, handler: fn(&Call<'_>) -> Result<Answer, ErrorShape>) -> Method {
    Method { name, scope, handler, only: None }
}

/// A method that version 4 has no more.
const fn older(name: &'static str, scope: Scope, handler: fn(&Call<'_>) -> Result<Answer, ErrorShape>) -> Method {
    Method { name, scope, handler, only: Some(ProtocolVersion::V3) }
}

/// Every method the gateway answers; what plugins add is not here.
pub(crate) static TABLE: &[Method] = &[
    method("agent", Scope::Depends, agent::run),
    method("agent.identity.get", Scope::Needs(READ), agents::identity),
    method("agent.wait", Scope::Needs(WRITE), agent::wait),
    method("agents.create", Scope::Needs(ADMIN), agents::create),
    method("agents.delete", Scope::Needs(ADMIN), agents::delete),
    method("agents.files.get", Scope::Needs(READ), agents::file),
    method("agents.files.list", Scope::Needs(READ), agents::files),
    method("agents.files.set", Scope::Needs(ADMIN), agents::set),
    method("agents.list", Scope::Needs(READ), agents::list),
    method("agents.update", Scope::Needs(ADMIN), agents::update),
    method("agents.workspace.get", Scope::Needs(READ), workspace::get),
    method("agents.workspace.list", Scope::Needs(READ), workspace::list),
    method("approval.get", Scope::Needs(APPROVALS), decisions::get),
    method("approval.history", Scope::Needs(APPROVALS), decisions::history),
    method("approval.resolve", Scope::Needs(APPROVALS), decisions::resolve),
    method("board.get", Scope::Needs(READ), none::answer),
    method("channels.logout", Scope::Needs(ADMIN), channels::logout),
    method("channels.pairing.list", Scope::Needs(PAIRING), none::answer),
    method("channels.start", Scope::Needs(ADMIN), channels::start),
    method("channels.status", Scope::Needs(READ), channels::status),
    method("channels.stop", Scope::Needs(ADMIN), channels::stop),
    method("commands.list", Scope::Needs(READ), none::answer),
    method("config.apply", Scope::Needs(ADMIN), config::apply),
    method("config.get", Scope::Needs(READ), config::get),
    method("config.patch", Scope::Needs(ADMIN), config::patch),
    method("config.schema", Scope::Needs(READ), config::schema),
    method("config.schema.lookup", Scope::Needs(READ), config::lookup),
    method("config.set", Scope::Needs(ADMIN), config::set),
    method("cron.list", Scope::Needs(READ), none::answer),
    method("cron.runs", Scope::Needs(READ), none::answer),
    method("cron.status", Scope::Needs(READ), none::answer),
    method("device.pair.approve", Scope::Needs(PAIRING), devices::approve),
    method("device.pair.list", Scope::Needs(PAIRING), devices::list),
    method("device.pair.reject", Scope::Needs(PAIRING), devices::reject),
    method("device.pair.remove", Scope::Needs(PAIRING), devices::remove),
    method("device.pair.rename", Scope::Needs(PAIRING), devices::rename),
    method("device.role.set", Scope::Needs(ADMIN), devices::set_role),
    method("device.token.revoke", Scope::Needs(PAIRING), devices::revoke),
    method("device.token.rotate", Scope::Needs(PAIRING), devices::rotate),
    method("diagnostics.lanes", Scope::Needs(READ), none::answer),
    method("doctor.memory.status", Scope::Needs(READ), none::answer),
    method("environments.list", Scope::Needs(READ), machine::environments),
    method("exec.approval.get", Scope::Needs(APPROVALS), decisions::waiting),
    method("exec.approval.grants.list", Scope::Needs(APPROVALS), none::answer),
    method("exec.approval.grants.revoke", Scope::Needs(APPROVALS), none::answer),
    method("exec.approval.list", Scope::Needs(APPROVALS), approvals::list_exec),
    method("exec.approval.request", Scope::Needs(APPROVALS), approvals::request_exec),
    method("exec.approval.resolve", Scope::Needs(APPROVALS), approvals::resolve_exec),
    method("exec.approval.waitDecision", Scope::Needs(APPROVALS), approvals::wait_exec),
    method("exec.approvals.get", Scope::Needs(ADMIN), approvals::rules),
    method("exec.approvals.node.get", Scope::Needs(ADMIN), nodes::rules),
    method("exec.approvals.node.set", Scope::Needs(ADMIN), nodes::set_rules),
    method("exec.approvals.set", Scope::Needs(ADMIN), approvals::set_rules),
    method("plugin.approval.list", Scope::Needs(APPROVALS), approvals::list_plugin),
    method("plugin.approval.request", Scope::Needs(APPROVALS), approvals::request_plugin),
    method("plugin.approval.resolve", Scope::Needs(APPROVALS), approvals::resolve_plugin),
    method("plugin.approval.waitDecision", Scope::Needs(APPROVALS), approvals::wait_plugin),
    method("gateway.identity.get", Scope::Needs(READ), devices::identity),
    method("groups.list", Scope::Needs(READ), groups::list),
    method("groups.register", Scope::Needs(ADMIN), groups::register),
    method("groups.remove", Scope::Needs(ADMIN), groups::remove),
    method("groups.update", Scope::Needs(ADMIN), groups::update),
    method("health", Scope::Open, health::health),
    method("hooks.status", Scope::Needs(READ), none::answer),
    method("last-heartbeat", Scope::Needs(READ), status::last_heartbeat),
    method("logs.tail", Scope::Needs(READ), logs::tail),
    method("message.action", Scope::Needs(WRITE), send::act),
    method("models.list", Scope::Needs(READ), models::list),
    method("models.authStatus", Scope::Needs(READ), models::auth_status),
    method("openclaw.approval.list", Scope::Needs(APPROVALS), none::answer),
    method("plugins.catalog.browse", Scope::Needs(READ), none::answer),
    method("plugins.catalog.categories", Scope::Needs(READ), none::answer),
    method("plugins.controlUi.list", Scope::Needs(READ), none::answer),
    method("node.describe", Scope::Needs(READ), nodes::describe),
    method("node.event", Scope::Node, nodes::event),
    method("node.invoke", Scope::Needs(WRITE), nodes::invoke),
    method("node.invoke.progress", Scope::Node, nodes::progress),
    method("node.invoke.result", Scope::Node, nodes::result),
    method("node.list", Scope::Needs(READ), nodes::list),
    method("node.pair.approve", Scope::Needs(PAIRING), nodes::approve),
    method("node.pair.list", Scope::Needs(PAIRING), nodes::paired),
    method("node.pair.reject", Scope::Needs(PAIRING), nodes::reject),
    method("node.pair.remove", Scope::Needs(PAIRING), nodes::remove),
    older("node.pair.request", Scope::Needs(PAIRING), nodes::request),
    older("node.pair.verify", Scope::Needs(PAIRING), nodes::verify),
    method("node.pending.ack", Scope::Node, nodes::ack),
    method("node.pending.drain", Scope::Node, nodes::drain),
    method("node.pending.enqueue", Scope::Needs(WRITE), nodes::enqueue),
    method("node.pending.pull", Scope::Node, nodes::pull),
    method("node.rename", Scope::Needs(PAIRING), nodes::rename),
    method("plugins.list", Scope::Needs(READ), plugins::list),
    method("plugins.inspect", Scope::Needs(READ), plugins::inspect),
    method("plugins.logs", Scope::Needs(READ), plugins::logs),
    method("plugins.grant", Scope::Needs(ADMIN), plugins::grant),
    method("plugins.revoke", Scope::Needs(ADMIN), plugins::revoke),
    method("plugins.purge", Scope::Needs(ADMIN), plugins::purge),
    method("plugins.reload", Scope::Needs(ADMIN), plugins::reload),
    method("progressCard.get", Scope::Needs(READ), none::answer),
    method("question.list", Scope::Needs(QUESTIONS), none::answer),
    method("chat.abort", Scope::Needs(WRITE), chat::abort),
    method("chat.history", Scope::Needs(READ), sessions::history),
    method("chat.inject", Scope::Needs(ADMIN), chat::inject),
    method("chat.message.get", Scope::Needs(READ), chat::message),
    method("chat.metadata", Scope::Needs(READ), chat::metadata),
    method("chat.send", Scope::Needs(WRITE), chat::send),
    method("chat.startup", Scope::Needs(READ), chat::startup),
    method("sessions.abort", Scope::Needs(WRITE), sessions::abort),
    method("sessions.branches.list", Scope::Needs(READ), sessions::branches),
    method("sessions.catalog.list", Scope::Needs(READ), none::answer),
    method("sessions.companion.state", Scope::Needs(READ), none::answer),
    method("sessions.compact", Scope::Needs(ADMIN), sessions::compact),
    method("sessions.create", Scope::Depends, sessions::create),
    method("sessions.delete", Scope::Depends, sessions::delete),
    method("sessions.describe", Scope::Needs(READ), sessions::describe),
    method("sessions.get", Scope::Needs(READ), sessions::get),
    method("sessions.groups.defaults", Scope::Needs(WRITE), sessions::group_defaults),
    method("sessions.groups.delete", Scope::Needs(WRITE), sessions::delete_group),
    method("sessions.groups.list", Scope::Needs(READ), sessions::list_groups),
    method("sessions.groups.put", Scope::Needs(WRITE), sessions::put_groups),
    method("sessions.groups.rename", Scope::Needs(WRITE), sessions::rename_group),
    method("sessions.groups.update", Scope::Needs(WRITE), sessions::update_group),
    method("sessions.list", Scope::Needs(READ), sessions::list),
    method("sessions.messages.subscribe", Scope::Needs(READ), sessions::follow),
    method("sessions.messages.unsubscribe", Scope::Needs(READ), sessions::unfollow),
    method("sessions.observer.visibility", Scope::Needs(READ), none::answer),
    method("sessions.patch", Scope::Depends, sessions::patch),
    method("sessions.patchMany", Scope::Depends, sessions::patch_many),
    method("sessions.preview", Scope::Needs(READ), sessions::preview),
    method("sessions.reset", Scope::Needs(ADMIN), sessions::reset),
    method("sessions.resolve", Scope::Needs(READ), sessions::resolve),
    method("sessions.send", Scope::Needs(WRITE), sessions::send),
    method("sessions.subscribe", Scope::Needs(READ), sessions::subscribe),
    method("sessions.unsubscribe", Scope::Needs(READ), sessions::unsubscribe),
    method("sessions.viewers.set", Scope::Needs(READ), sessions::viewers),
    method("sessions.usage", Scope::Needs(READ), sessions::usage),
    method("sessions.usage.logs", Scope::Needs(READ), sessions::logs),
    method("sessions.usage.timeseries", Scope::Needs(READ), sessions::timeseries),
    method("usage.cost", Scope::Needs(READ), sessions::cost),
    method("usage.status", Scope::Needs(READ), sessions::status),
    method("providers.list", Scope::Needs(READ), models::providers_list),
    method("send", Scope::Needs(WRITE), send::send),
    method("set-heartbeats", Scope::Needs(ADMIN), status::set_heartbeats),
    method("skills.bins", Scope::Node, none::answer),
    method("skills.library.list", Scope::Needs(READ), none::answer),
    method("skills.install", Scope::Needs(ADMIN), skills::install),
    method("skills.search", Scope::Needs(READ), skills::search),
    method("skills.status", Scope::Needs(READ), skills::status),
    method("skills.update", Scope::Needs(ADMIN), skills::update),
    method("status", Scope::Needs(READ), status::status),
    method("system-event", Scope::Needs(ADMIN), system::event),
    method("system-presence", Scope::Needs(READ), system::presence),
    method("system.info", Scope::Needs(READ), machine::info),
    method("taskSuggestions.list", Scope::Needs(READ), none::answer),
    method("tasks.list", Scope::Needs(READ), none::answer),
    method("themes.list", Scope::Needs(READ), none::answer),
    method("tools.catalog", Scope::Needs(READ), tools::catalog),
    method("tools.effective", Scope::Needs(READ), tools::effective),
    method("tools.github.status", Scope::Needs(READ), none::answer),
    method("tools.invoke", Scope::Needs(WRITE), tools::invoke),
    method("update.status", Scope::Needs(ADMIN), none::answer),
    method("users.list", Scope::Needs(READ), none::answer),
    method("users.prefs.get", Scope::Needs(READ), none::answer),
    method("voicewake.get", Scope::Needs(READ), voicewake::get),
    method("voicewake.set", Scope::Needs(WRITE), voicewake::set),
    method("wake", Scope::Needs(WRITE), status::wake),
    method("webSearch.status", Scope::Needs(READ), none::answer),
    method("worktrees.list", Scope::Needs(READ), none::answer),
];

/// A method and what a call of it counts as.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) method: &'static Method,
    pub(crate) cost: cost::Cost,
}

static BY_NAME: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    TABLE.iter().map(|method| (method.name, Known { method, cost: cost::Cost::of(method) })).collect()
});

/// Methods only a node may call, known to this gateway or not: who is none learns that before anything else.
const NODE_METHODS: [&str; 12] = [
    "node.invoke.result",
    "node.invoke.progress",
    "node.event",
    "node.pending.drain",
    "node.pending.pull",
    "node.pending.ack",
    "node.canvas.capability.refresh",
    "node.pluginSurface.refresh",
    "node.pluginTools.update",
    "node.skills.update",
    "node.runnerInventory.update",
    "skills.bins",
];

/// Whether a caller of that role may call the method at all: nodes have methods of their own, and operators all others.
pub(crate) fn role_fits(role: &str, name: &str, method: Option<&Method>) -> bool {
    match method.map(|method| method.scope) {
        Some(Scope::Open) => true,
        Some(Scope::Node) => role == "node",
        Some(_) => role != "node",
        None => NODE_METHODS.contains(&name) == (role == "node"),
    }
}

/// Methods besides those for admins and pairing that tell others what they stored, or that do one thing after the other.
const CARRIED_THROUGH: [&str; 7] = [
    "chat.abort",
    "chat.send",
    "sessions.abort",
    "sessions.create",
    "sessions.patchMany",
    "sessions.send",
    "voicewake.set",
];

/// Whether a call is gone on with when its client goes away: where it would else be half done.
pub(crate) fn is_carried_through(method: &Method) -> bool {
    let decides = matches!(method.scope, Scope::Needs(scope) if [ADMIN, PAIRING].contains(&scope));
    decides || CARRIED_THROUGH.contains(&method.name)
}

/// The method of that name.
pub(crate) fn find(name: &str) -> Option<Known> {
    BY_NAME.get(name).copied()
}

/// Whether version 3 of the protocol has a method of that name here, and version 4 has not.
#[must_use]
pub fn is_of_version_3_only(name: &str) -> bool {
    find(name).is_some_and(|known| known.method.only == Some(ProtocolVersion::V3))
}

/// The gateway's own methods whose names begin with this and a dot, as version 4 of the protocol has them.
#[must_use]
pub fn own_methods(family: &str) -> Vec<&'static str> {
    let is_of_it = |name: &str| name.strip_prefix(family).is_some_and(|rest| rest.starts_with('.'));
    let here = TABLE.iter().filter(|method| method.is_in(ProtocolVersion::V4));
    here.map(|method| method.name).filter(|name| is_of_it(name)).collect()
}

impl Call<'_> {
    /// Reads the parameters, or phrases what is wrong with them. Each pair in `aliases` is a further name of a
    /// parameter and the name the schema knows.
    pub(crate) fn read<T: DeserializeOwned>(&self, shape: &Shape, aliases: &[(&str, &str)]) -> Result<T, ErrorShape> {
        let invalid = |problems: String| ErrorShape::invalid(format!("invalid {} params: {problems}", self.method));
        let mut value: Value =
            serde_json::from_str(self.params).map_err(|error| invalid(format!("at root: {error}")))?;
        if let Some(object) = value.as_object_mut() {
            for (alias, name) in aliases {
                if !object.contains_key(*name)
                    && let Some(given) = object.shift_remove(*alias)
                {
                    object.insert((*name).to_owned(), given);
                }
            }
        }
        shape.read(self.session.version, value).map_err(invalid)
    }

    /// Reads the parameters of a method that takes none.
    pub(crate) fn takes_nothing(&self) -> Result<(), ErrorShape> {
        self.read::<Value>(&NOTHING, &[]).map(drop)
    }

    /// The answer that comes when `work` is done, which outlives the call.
    pub(crate) fn later<F: Future<Output = Outcome> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<State>, Arc<Session>) -> F,
    ) -> Answer {
        Answer::Later(Box::pin(work(Arc::clone(self.state), Arc::clone(self.session))))
    }
}

#[cfg(test)]
mod tests {
    use leanclaw_types::id::RESERVED_PLUGIN_IDS;

    use crate::hub::OWN_EVENTS;

    #[test]
    fn no_plugin_can_have_a_name_that_the_gateway_uses() {
        for name in super::TABLE.iter().map(|method| method.name).chain(OWN_EVENTS) {
            let first = name.split('.').next().unwrap();
            // No id has a capital letter.
            let is_no_id = first.chars().any(|letter| letter.is_ascii_uppercase());
            assert!(is_no_id || RESERVED_PLUGIN_IDS.contains(&first), "{name}");
        }
    }
}
