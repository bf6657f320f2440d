//! The methods of OpenClaw that LeanClaw does not have: each was decided on, with a reason, and is as unknown as one that
//! nobody ever heard of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::scopes::facts;
use super::{assert_invalid, start, with_token};
use crate::methods::{TABLE, role_fits};

/// Reasons by method, or by `family.*` for what is not named otherwise; in groups.
fn reasons() -> BTreeMap<String, String> {
    let groups: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(include_str!("../../../../tests/data/methods-not-here.json")).unwrap();
    let count: usize = groups.values().map(BTreeMap::len).sum();
    let all: BTreeMap<_, _> = groups.into_values().flatten().collect();
    assert_eq!(all.len(), count, "listed twice");
    all
}

fn here() -> BTreeSet<&'static str> {
    TABLE.iter().map(|method| method.name).collect()
}

fn absent() -> Vec<String> {
    facts().methods().into_iter().filter(|method| !here().contains(method.as_str())).collect()
}

/// The entry that speaks for a method: its own, or that of the nearest family.
fn entry<'a>(reasons: &'a BTreeMap<String, String>, method: &str) -> Option<&'a str> {
    let families = method.rmatch_indices('.').map(|(at, _)| format!("{}.*", &method[..at]));
    let found = std::iter::once(method.to_owned()).chain(families).find_map(|name| reasons.get_key_value(&name));
    found.map(|(name, _)| name.as_str())
}

#[test]
fn every_method_that_is_not_here_was_decided_on() {
    let reasons = reasons();
    let (decided, undecided): (Vec<_>, Vec<_>) =
        absent().into_iter().partition(|method| entry(&reasons, method).is_some());
    assert!(undecided.is_empty(), "neither a method nor in methods-not-here.json: {undecided:?}");
    let used: BTreeSet<_> = decided.iter().filter_map(|method| entry(&reasons, method)).collect();
    let idle: Vec<_> = reasons.keys().filter(|name| !used.contains(name.as_str())).collect();
    assert!(idle.is_empty(), "these speak for no method that is not here: {idle:?}");
    assert!(reasons.values().all(|why| why.len() > 20), "every one needs a reason");
}

#[tokio::test]
async fn what_is_not_here_is_neither_announced_nor_answered() {
    let server = start(with_token()).await;
    for protocol in [3, 4] {
        let mut client = server.open().await;
        let mut params = super::connect_params(protocol, protocol);
        params["auth"] = json!({"token": super::TOKEN});
        params["scopes"] = json!(["operator.admin"]);
        let hello = client.call("connect", params).await["payload"].clone();
        let announced = hello["features"]["methods"].as_array().unwrap();
        for method in absent() {
            assert!(!announced.contains(&json!(method)), "{method}");
            let answer = client.call(&method, json!({})).await;
            match method.as_str() {
                "connect" => assert_invalid(&answer, "connect is only valid as the first request"),
                of_nodes if !role_fits("operator", of_nodes, None) => {
                    assert_invalid(&answer, "unauthorized role: operator")
                }
                unknown => assert_invalid(&answer, &format!("unknown method: {unknown}")),
            }
        }
    }
}
