//! The table of methods against what OpenClaw asks for, and what who lacks it is told.

use std::collections::{BTreeMap, BTreeSet};

use leanclaw_types::frame::ProtocolVersion;
use serde::Deserialize;
use serde_json::json;

use super::{start, with_token};
use crate::methods::{Scope, TABLE};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Era {
    /// Methods by what they ask for: a scope, `node` or `dynamic`.
    methods: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
pub(super) struct Facts {
    v3: Era,
    v4: Era,
}

impl Facts {
    /// Every method that OpenClaw has in either version.
    pub(super) fn methods(self) -> BTreeSet<String> {
        let eras = [self.v3, self.v4].into_iter();
        eras.flat_map(|era| era.methods.into_values().flatten()).collect()
    }
}

impl Era {
    fn asks(&self, method: &str) -> Option<&str> {
        self.methods.iter().find(|(_, names)| names.contains(method)).map(|(scope, _)| scope.as_str())
    }
}

pub(super) fn facts() -> Facts {
    serde_json::from_str(include_str!("../../../../tests/data/method-scopes.json")).unwrap()
}

/// Where the gateway asks for something else than OpenClaw 2026.9 does, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "environments.list",
        "read, whatever is asked: OpenClaw asks for more where machines are rented, and there are none here",
    ),
    ("health", "asks for nothing in both: OpenClaw lists it under read and answers it to everyone all the same"),
    (
        "node.invoke",
        "write, whatever is asked: the commands for which OpenClaw asks for more are refused to everybody here",
    ),
];

/// Methods that are LeanClaw's own, or that OpenClaw 2026.9 no longer has.
const NOT_IN_OPENCLAW: &[(&str, &str)] = &[
    ("device.role.set", "bounds what a device may do: an admin's decision"),
    ("groups.list", "reads which chats belong to which agent"),
    ("groups.register", "changes whom an agent answers: an admin's decision"),
    ("groups.remove", "changes whom an agent answers: an admin's decision"),
    ("groups.update", "changes whom an agent answers: an admin's decision"),
    ("node.pair.request", "asks for a token of a node, which only version 3 has"),
    ("node.pair.verify", "tells of such a token, in version 3 only"),
    ("plugins.grant", "gives a plugin rights: an admin's decision"),
    ("plugins.logs", "reads what a plugin logged"),
    ("plugins.purge", "deletes what is kept of a plugin: an admin's decision"),
    ("plugins.revoke", "takes rights back: an admin's decision"),
    ("providers.list", "reads what can be configured"),
    ("sessions.unsubscribe", "undoes what sessions.subscribe did, and asks for the same"),
];

/// Where one table for both versions asks version 3 for something else than OpenClaw 2026.3 did. Each is as 2026.9 has it.
const DIFFERENCES_IN_VERSION_3: &[(&str, &str)] = &[
    ("agent", "a message that begins a conversation anew needs admin"),
    ("config.schema", "a description without any value; what it describes is under read as well"),
    ("health", "asks for nothing in both"),
    ("sessions.delete", "archived sessions only need write"),
    ("sessions.patch", "a name or a colour only needs write"),
];

fn named(scope: Scope) -> &'static str {
    match scope {
        Scope::Open => "nothing",
        Scope::Node => "node",
        Scope::Needs(scope) => scope,
        Scope::Depends => "dynamic",
    }
}

fn listed(list: &[(&'static str, &str)]) -> BTreeSet<&'static str> {
    for (name, why) in list {
        assert!(why.len() > 10, "{name} needs a reason");
    }
    list.iter().map(|(name, _)| *name).collect()
}

#[test]
fn every_method_asks_for_what_openclaw_asks_for() {
    let facts = facts();
    assert_eq!(facts.v4.methods.values().map(BTreeSet::len).sum::<usize>(), 482, "the list is whole");
    let (mut differences, mut own) = (Vec::new(), Vec::new());
    for method in TABLE {
        match facts.v4.asks(method.name) {
            None => own.push(method.name),
            Some(scope) if scope != named(method.scope) => differences.push(method.name),
            Some(_) => {}
        }
    }
    assert_eq!(differences.into_iter().collect::<BTreeSet<_>>(), listed(DIFFERENCES));
    assert_eq!(own.into_iter().collect::<BTreeSet<_>>(), listed(NOT_IN_OPENCLAW));
}

#[test]
fn version_3_differs_only_where_it_is_listed() {
    let facts = facts();
    let differs =
        |method: &&crate::methods::Method| facts.v3.asks(method.name).is_some_and(|scope| scope != named(method.scope));
    let differences: BTreeSet<_> = TABLE.iter().filter(differs).map(|method| method.name).collect();
    assert_eq!(differences, listed(DIFFERENCES_IN_VERSION_3));
}

/// Who lacks a scope is told which, for every method of the table, in the words of its version.
#[tokio::test]
async fn a_denial_names_the_scope_that_is_missing() {
    let server = start(with_token()).await;
    for (protocol, version) in [(3, ProtocolVersion::V3), (4, ProtocolVersion::V4)] {
        let mut nobody = server.connect(protocol, &[]).await;
        for method in TABLE.iter().filter(|method| method.is_in(version)) {
            let Scope::Needs(scope) = method.scope else { continue };
            let error = nobody.call(method.name, json!({})).await["error"].clone();
            let mut expected = json!({"code": "INVALID_REQUEST", "message": format!("missing scope: {scope}")});
            if protocol == 4 {
                expected["code"] = json!("FORBIDDEN");
                expected["details"] = json!({
                    "code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope],
                });
            }
            assert_eq!(error, expected, "{}", method.name);
        }
        assert_eq!(nobody.call("health", json!({})).await["ok"], true);
    }
}

/// A scope opens the methods that ask for it and those that ask for what it includes, and no other.
#[tokio::test]
async fn a_scope_opens_its_own_methods_and_no_others() {
    let server = start(with_token()).await;
    for (held, also) in [("operator.read", ""), ("operator.write", "operator.read"), ("operator.pairing", "")] {
        let mut client = server.connect(4, &[held]).await;
        for method in TABLE.iter().filter(|method| method.is_in(ProtocolVersion::V4)) {
            let Scope::Needs(scope) = method.scope else { continue };
            let response = client.call(method.name, json!({"no such parameter": 1})).await;
            let denied = response["error"]["details"]["code"] == "MISSING_SCOPE";
            assert_eq!(denied, scope != held && scope != also, "{held} {}: {response}", method.name);
        }
    }
}
