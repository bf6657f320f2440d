//! No method is announced that no test has seen do something, or that is not said to have nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{start, with_token};
use crate::methods::{Scope, TABLE};

/// Per method a file and the name of a test in it.
fn tests() -> BTreeMap<String, String> {
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

/// A test counts when it, or a helper that it calls, names the method.
#[test]
fn every_test_that_is_named_calls_its_method() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (method, place) in tests() {
        let (file, name) = place.split_once(' ').unwrap();
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let quoted = format!("\"{method}\"");
        let functions = functions(&source);
        let (_, test) =
            functions.iter().find(|(own, _)| *own == name).unwrap_or_else(|| panic!("{method}: no {place}"));
        let helps = |(helper, body): &(&str, &str)| body.contains(&quoted) && test.contains(&format!("{helper}("));
        assert!(test.contains(&quoted) || functions.iter().any(helps), "{place} does not call {method}");
    }
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
