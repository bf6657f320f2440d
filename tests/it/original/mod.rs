//! What the end-to-end suite of the original LeanClaw, written in TypeScript, asserts, asked of the real program.
//!
//! `tests/data/original-assertions.json` names every assertion, and `tests/data/original-differences.json` those that do not
//! hold here, each with the reason. Every check says what the original did: one that is listed as a difference has to fail, with
//! the words that the list says, so that the list cannot outlive what it says and hides nothing else. What those tests did to the inside of their server, plugins do here.

mod clients;
mod errors;
mod handshake;
mod identity;
mod later;
mod methods;
mod plugins;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::support::{Client, Place, Program, env, eventually, install_guest, manifest, text};

/// The key of the original's tests of keys.
const KEY: &str = "test-key-123";

type Running = Pin<Box<dyn Future<Output = ()>>>;

/// One assertion of the original.
struct Check {
    name: &'static str,
    run: fn(Arc<Ground>) -> Running,
}

const fn check(name: &'static str, run: fn(Arc<Ground>) -> Running) -> Check {
    Check { name, run }
}

/// Every check there is, by the test that runs it.
const ALL: [&[Check]; 7] = [
    clients::CHECKS,
    errors::CHECKS,
    handshake::CHECKS,
    identity::CHECKS,
    later::CHECKS,
    methods::CHECKS,
    plugins::CHECKS,
];

/// A program with plugins that do what the original's tests had handlers for.
struct Ground {
    _place: Place,
    program: Program,
}

impl Ground {
    async fn new() -> Arc<Self> {
        let place = Place::with_examples(&["notes"]).await;
        for (id, answer) in [
            ("error", json!({"code": "internal", "message": "Test error"})),
            (
                "text",
                json!({
                    "code": "unavailable", "message": "string error"
                }),
            ),
        ] {
            let guest = leanclaw_test_guests::Guest::new("export method;").methods();
            let wasm = guest.answer("method.invoke", json!({ "err": answer })).build().unwrap();
            install_guest(&place, &manifest(&format!("throws-{id}"), "1", &json!({})), &wasm);
        }
        let channel = leanclaw_test_guests::Guest::new("export channel;")
            .answer("channel.describe", json!({"id": "post"}))
            .answer("channel.deliver", json!({"ok": {"message-id": "delivered"}}));
        install_guest(&place, &manifest("post", "1", &json!({"channels": ["post"]})), &channel.build().unwrap());
        let program = place.start().await;
        for id in ["notes", "post", "throws-error", "throws-text"] {
            assert_eq!(program.grant_all(id).await["state"], "ready", "{id}");
        }
        Arc::new(Self { _place: place, program })
    }

    /// A client with the parameters that the original's client of this name connects with.
    async fn join(&self, who: &str) -> Result<Client, Value> {
        join(&self.program, connect(who)).await
    }

    /// The original's usual client.
    async fn operator(&self) -> Client {
        self.join("operator").await.expect("it is let in")
    }
}

/// The parameters that the original's client of this name connects with.
fn connect(who: &str) -> Value {
    facts()["connects"][who].clone()
}

async fn join(program: &Program, params: Value) -> Result<Client, Value> {
    let mut client = Client::open(program.address, None).await.expect("the gateway takes WebSockets");
    client.event("connect.challenge").await;
    client.hello = client.call("connect", params).await?;
    Ok(client)
}

/// A program of its own that asks for the original's key.
async fn with_key() -> (Place, Program) {
    let place = Place::empty();
    let program = place.start_with(env("LEANCLAW_GATEWAY_API_KEY", KEY)).await;
    (place, program)
}

fn facts() -> Value {
    serde_json::from_str(include_str!("../../data/original-assertions.json")).unwrap()
}

/// An assertion that does not hold.
struct Difference {
    reason: String,
    /// What its check fails with.
    fails: String,
}

/// Every assertion that does not hold.
fn differences() -> BTreeMap<String, Difference> {
    let listed: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(include_str!("../../data/original-differences.json")).unwrap();
    let mut all = BTreeMap::new();
    for (name, row) in listed.into_values().flatten() {
        let difference = Difference { reason: text(&row["reason"]).to_owned(), fails: text(&row["fails"]).to_owned() };
        assert!(difference.reason.len() > 20, "{name} needs a reason");
        assert!(difference.fails.len() > 3, "{name} fails with some words");
        assert!(all.insert(name.clone(), difference).is_none(), "{name} is listed twice");
    }
    all
}

/// What a panic said.
fn words(panic: &(dyn Any + std::marker::Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Runs checks one after the other and says which ones hold although they are listed, or do not although they are not.
async fn run(checks: &[Check]) {
    let (differences, ground) = (differences(), Ground::new().await);
    let mut wrong = Vec::new();
    for check in checks {
        let outcome = AssertUnwindSafe((check.run)(Arc::clone(&ground))).catch_unwind().await;
        let failed = outcome.err().map(|panic| words(&*panic));
        match (failed, differences.get(check.name)) {
            (None, None) => {}
            (Some(words), Some(difference)) if words.contains(&difference.fails) => {}
            (Some(words), Some(Difference { fails, .. })) => {
                wrong.push(format!("{}: fails otherwise than with `{fails}`: {words}", check.name));
            }
            (Some(words), None) => wrong.push(format!("{}: does not hold: {words}", check.name)),
            (None, Some(Difference { reason, .. })) => {
                wrong.push(format!("{}: holds, and is listed as a difference: {reason}", check.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let ground = Arc::into_inner(ground).expect("every check has ended");
    ground.program.stop().await;
}

#[tokio::test]
async fn handshake_and_frames() {
    run(handshake::CHECKS).await;
}

#[tokio::test]
async fn methods() {
    run(methods::CHECKS).await;
}

#[tokio::test]
async fn plugins() {
    run(plugins::CHECKS).await;
}

#[tokio::test]
async fn clients_and_restarts() {
    run(clients::CHECKS).await;
}

#[tokio::test]
async fn errors_and_chaos() {
    run(errors::CHECKS).await;
}

#[tokio::test]
async fn keys_and_nodes() {
    run(identity::CHECKS).await;
}

#[tokio::test]
async fn chat_and_cron() {
    run(later::CHECKS).await;
}

/// Nothing the original asserts is left out: each is checked, or listed with the reason why it cannot even be asked.
#[test]
fn every_assertion_is_checked_or_listed() {
    let facts = facts();
    let named: BTreeSet<&str> = facts["assertions"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut checked = BTreeSet::new();
    for check in ALL.into_iter().flatten() {
        assert!(checked.insert(check.name), "{} is checked twice", check.name);
    }
    let listed = differences();
    let unknown: Vec<_> =
        checked.iter().copied().chain(listed.keys().map(String::as_str)).filter(|name| !named.contains(name)).collect();
    assert!(unknown.is_empty(), "the original asserts nothing of these names: {unknown:?}");
    let open: Vec<_> = named.iter().filter(|name| !checked.contains(*name) && !listed.contains_key(**name)).collect();
    assert!(open.is_empty(), "neither checked nor listed: {open:?}");
}

/// Waits until the program is asked for nothing but by this test, for what counts connections.
async fn until_connections(program: &Program, wanted: u64) {
    eventually("the number of connections", async || {
        (program.get("/metrics").await.json()["connections"] == wanted).then_some(())
    })
    .await;
}
