//! No method is announced that no test has seen do something, or that is not said to have nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{start, with_token};
use crate::methods::{READ, Scope, TABLE};

/// A file and the name of a test in it; with `stored`, why there is nothing that could outlive the gateway.
#[derive(Deserialize)]
#[serde(untagged)]
enum Place {
    Kept(String),
    Fleeting { test: String, stored: String },
}

impl Place {
    fn test(&self) -> (&str, &str) {
        let (Self::Kept(test) | Self::Fleeting { test, .. }) = self;
        test.split_once(' ').unwrap()
    }
}

/// Per method the test that sees what it does.
fn tests() -> BTreeMap<String, Place> {
    serde_json::from_str(include_str!("../../../../tests/data/method-tests.json")).unwrap()
}

#[derive(Deserialize)]
struct Empty {
    params: Value,
    why: String,
}

fn empty() -> BTreeMap<String, Empty> {
    serde_json::from_str(include_str!("../../../../tests/data/methods-answer-empty.json")).unwrap()
}

#[test]
fn every_method_has_a_test_or_a_reason_why_it_has_nothing_to_tell() {
    let announced: BTreeSet<&str> = TABLE.iter().map(|method| method.name).collect();
    let (tests, empty) = (tests(), empty());
    let listed: Vec<&str> = tests.keys().chain(empty.keys()).map(String::as_str).collect();
    let missing: Vec<_> = announced.iter().filter(|name| !listed.contains(name)).collect();
    assert!(missing.is_empty(), "neither in method-tests.json nor in methods-answer-empty.json: {missing:?}");
    let gone: Vec<_> = listed.iter().filter(|name| !announced.contains(*name)).collect();
    assert!(gone.is_empty(), "listed, but no method: {gone:?}");
    let both: Vec<_> = tests.keys().filter(|name| empty.contains_key(*name)).collect();
    assert!(both.is_empty(), "listed twice: {both:?}");
    assert!(empty.values().all(|empty| empty.why.len() > 20), "every one needs a reason");
}

/// A test counts when it, or a helper that it calls, names the method. What is written has to be looked for in a gateway that
/// was started afterwards, and what is read has to be read from one; or the row says why nothing is stored.
#[test]
fn every_test_that_is_named_calls_its_method_and_starts_the_gateway_anew() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (method, place) in tests() {
        let (file, name) = place.test();
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let functions = functions(&source);
        let test = functions.iter().find(|(own, _)| *own == name).unwrap_or_else(|| panic!("{method}: no {name}")).1;
        let quoted = said_as(&method);
        let helps = |(helper, body): &(&str, &str)| {
            let called = test.find(&format!("{helper}("));
            called.filter(|_| quoted.iter().any(|quoted| body.contains(quoted)))
        };
        let named = quoted.iter().filter_map(|quoted| test.find(quoted));
        let first = named.chain(functions.iter().filter_map(helps)).min();
        let first = first.unwrap_or_else(|| panic!("{file} {name} does not call {method}"));
        match (&place, last_start(test)) {
            (Place::Fleeting { stored, .. }, _) => {
                assert!(stored.starts_with("nothing, because ") && stored.len() > 30, "{method}: {stored}");
            }
            (Place::Kept(_), Some(start)) => {
                assert!(first < start || is_read(&method), "{file} {name} starts the gateway before it calls {method}");
            }
            (Place::Kept(_), None) => panic!("{file} {name} does not start the gateway again: {method}"),
        }
    }
}

/// How a call of the method is written: by its name, or for the two that start and stop a channel as a command.
fn said_as(method: &str) -> Vec<String> {
    let command = method.strip_prefix("channels.").map(|command| format!("switch(\"{command}\")"));
    [Some(format!("\"{method}\"")), command].into_iter().flatten().collect()
}

/// Where in a test the gateway is started for the last time after it was stopped.
fn last_start(test: &str) -> Option<usize> {
    let again = ["restarted(", ".again("].into_iter().filter_map(|start| test.rfind(start));
    let stopped = test.find(".stop().await");
    let starts = [" start_on(", " over(", ".start().await"].into_iter().filter_map(|start| test.rfind(start));
    let after_a_stop = starts.filter(|start| stopped.is_some_and(|stop| stop < *start));
    again.chain(after_a_stop).max()
}

/// Whether it only tells what others have written.
fn is_read(method: &str) -> bool {
    let scope = TABLE.iter().find(|known| known.name == method).unwrap().scope;
    let last = method.rsplit('.').next().unwrap();
    matches!(scope, Scope::Needs(READ)) || ["get", "list", "history", "defaults"].contains(&last)
}

/// Names and bodies of the functions of a file, as rustfmt sets them out.
fn functions(source: &str) -> Vec<(&str, &str)> {
    let starts = ["\nfn ", "\nasync fn ", "\npub(super) fn ", "\npub(super) async fn "];
    let named = starts.into_iter().flat_map(|start| source.split(start).skip(1));
    named.filter_map(|text| Some((text.split_once(['(', '<'])?.0, text.split_once("\n}")?.0))).collect()
}

/// What is said to have nothing to tell answers, to both versions, and says the same again.
#[tokio::test]
async fn what_has_nothing_to_tell_says_so() {
    let server = start(with_token()).await;
    for version in [3, 4] {
        let mut client = server.connect(version, &["operator.admin", "operator.questions"]).await;
        for (method, Empty { params, .. }) in empty() {
            let scope = TABLE.iter().find(|known| known.name == method).unwrap().scope;
            if matches!(scope, Scope::Node) {
                continue;
            }
            let first = client.call(&method, params.clone()).await;
            assert_eq!(first["ok"], true, "{method}: {first}");
            assert_eq!(client.call(&method, params).await["payload"], first["payload"], "{method}");
        }
    }
}
