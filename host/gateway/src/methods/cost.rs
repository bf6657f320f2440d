//! What calls of a method count as, for the limits on how often may be called.

use super::{ADMIN, APPROVALS, Method, PAIRING, READ, Scope};
use crate::rate::Class;

/// Methods that make others work: plugins, channels, sums over everything that is stored.
const EXPENSIVE: [&str; 8] = [
    "message.action",
    "node.invoke",
    "plugins.reload",
    "send",
    "sessions.usage",
    "sessions.usage.timeseries",
    "tools.invoke",
    "usage.cost",
];

/// Control-plane writes, also those that this gateway has not: limited per method. In the order of their names.
const CONTROL_PLANE: [&str; 58] = [
    "attach.grant",
    "claws.monitors",
    "claws.packages.remove",
    "config.apply",
    "config.patch",
    "cron.add",
    "cron.remove",
    "cron.run",
    "cron.update",
    "environments.create",
    "environments.destroy",
    "environments.prepare",
    "environments.session.create",
    "environments.session.destroy",
    "gateway.restart.request",
    "gateway.suspend.handoff",
    "gateway.suspend.prepare",
    "mcp.authLogin",
    "migrations.memory.apply",
    "models.authLogin",
    "models.authLogout",
    "models.authOrderSet",
    "models.authRefresh",
    "models.authSetApiKey",
    "plugins.controlUi.reload",
    "plugins.install",
    "plugins.refresh",
    "plugins.reload",
    "plugins.setEnabled",
    "plugins.uninstall",
    "portal.close",
    "portal.open",
    "projects.add",
    "secrets.store.delete",
    "secrets.store.set",
    "sessions.companion.reset",
    "sessions.dispatch",
    "sessions.github.confirm",
    "sessions.github.publish",
    "sessions.move",
    "sessions.reclaim",
    "sessions.title.prepare",
    "skills.proposals.evaluate",
    "tools.github.authorize.cancel",
    "tools.github.authorize.poll",
    "tools.github.authorize.start",
    "tools.github.configure",
    "update.hold",
    "update.report",
    "update.run",
    "users.github.authorize.cancel",
    "users.github.authorize.poll",
    "users.github.authorize.start",
    "users.github.disconnect",
    "worktrees.create",
    "worktrees.gc",
    "worktrees.remove",
    "worktrees.restore",
];

/// What a call counts as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) class: Class,
    pub(crate) is_control_plane: bool,
}

impl Cost {
    pub(super) fn of(method: &Method) -> Self {
        let class = match method.scope {
            _ if EXPENSIVE.contains(&method.name) => Class::Expensive,
            Scope::Open => Class::Read,
            Scope::Node | Scope::Depends => Class::Write,
            Scope::Needs(scope) => Class::of_scope(scope),
        };
        Self { class, is_control_plane: CONTROL_PLANE.binary_search(&method.name).is_ok() }
    }
}

impl Class {
    /// The class of a plugin's method with that scope.
    pub(crate) fn of_scope(scope: &str) -> Self {
        match scope {
            READ | "operator.sessions.read" => Self::Read,
            ADMIN | PAIRING | APPROVALS => Self::Admin,
            _ => Self::Write,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_hold_what_they_say() {
        assert!(CONTROL_PLANE.is_sorted() && EXPENSIVE.is_sorted());
        let facts: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/data/method-scopes.json")).unwrap();
        let listed: Vec<&str> =
            facts["v4"]["controlPlaneWrites"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
        assert_eq!(listed, CONTROL_PLANE);
        let cost = |name: &str| super::super::find(name).unwrap().cost;
        assert_eq!(cost("status").class, Class::Read);
        assert_eq!(cost("environments.list").class, Class::Read);
        assert_eq!(cost("wake").class, Class::Write);
        assert_eq!(cost("device.pair.list").class, Class::Admin);
        assert_eq!(cost("tools.invoke").class, Class::Expensive);
        assert!(cost("config.apply").is_control_plane && !cost("config.set").is_control_plane);
    }
}
