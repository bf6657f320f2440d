//! What a credential or a device is good for at most.
//!
//! | role | scopes |
//! |---|---|
//! | `admin` | all |
//! | `user` | `operator.read`, `operator.write`, `operator.questions`, `operator.talk`, `operator.sessions.read`, `operator.sessions.write` |
//! | `viewer` | `operator.read`, `operator.sessions.read` |
//!
//! A role only ever takes away: a connection gets the scopes that it asks for and that its role has.

use leanclaw_types::Caller;
use serde::{Deserialize, Serialize};

/// What a credential or a device is good for at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Looks and uses; neither configures, nor pairs, nor approves.
    User,
    /// Everything.
    #[default]
    Admin,
}

impl Role {
    /// The role of that name: `admin`, `user` or `viewer`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Admin, Self::User, Self::Viewer].into_iter().find(|role| role.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    /// The scopes it has.
    pub(crate) fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Viewer => &["operator.read", "operator.sessions.read"],
            Self::User => &[
                "operator.read",
                "operator.write",
                "operator.questions",
                "operator.talk",
                "operator.sessions.read",
                "operator.sessions.write",
            ],
            Self::Admin => &["operator.admin"],
        }
    }

    /// Of the scopes that are asked for, those it has. Who asks for more than it has gets what it has of that.
    pub(crate) fn allow(self, wanted: Vec<String>) -> Vec<String> {
        if self == Self::Admin {
            return wanted;
        }
        let own = || self.scopes().iter().map(|scope| (*scope).to_owned());
        let asker = Caller::client("", "", wanted.clone());
        let holder = Caller::client("", "", own().collect());
        let mut allowed: Vec<String> = wanted.into_iter().filter(|scope| holder.holds(scope)).collect();
        let implied: Vec<String> = own().filter(|scope| asker.holds(scope) && !allowed.contains(scope)).collect();
        allowed.extend(implied);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_gives_what_is_asked_for_and_what_it_has() {
        let allow = |role: Role, wanted: &[&str]| role.allow(wanted.iter().map(|scope| (*scope).to_owned()).collect());
        let everything = ["operator.admin", "operator.approvals", "operator.pairing", "operator.read", "x"];
        assert_eq!(allow(Role::Admin, &everything), everything);
        assert_eq!(allow(Role::Viewer, &everything), ["operator.read", "operator.sessions.read"]);
        assert_eq!(allow(Role::Viewer, &["operator.admin"]), ["operator.read", "operator.sessions.read"]);
        assert_eq!(allow(Role::Viewer, &["operator.write"]), ["operator.read"], "write includes read");
        assert!(allow(Role::Viewer, &[]).is_empty());
        assert_eq!(allow(Role::User, &["operator.read"]), ["operator.read"]);
        assert!(allow(Role::User, &["operator.admin"]).contains(&"operator.write".to_owned()));
        assert!(allow(Role::User, &["operator.pairing", "operator.approvals"]).is_empty());
    }

    #[test]
    fn each_role_has_less_than_the_next() {
        let covers = |more: Role, less: Role| {
            less.scopes().iter().all(|scope| {
                Caller::client("", "", more.scopes().iter().map(|scope| (*scope).to_owned()).collect()).holds(scope)
            })
        };
        assert!(covers(Role::Admin, Role::User) && covers(Role::User, Role::Viewer));
        assert!(!covers(Role::Viewer, Role::User) && !covers(Role::User, Role::Admin));
        assert!(Role::Admin > Role::User && Role::User > Role::Viewer);
        assert_eq!(Role::named("viewer"), Some(Role::Viewer));
        assert_eq!(Role::named("root"), None);
    }
}
