//! What clients of version 3 are answered and told, held to what OpenClaw 2026.3.13 was seen to say.
//!
//! A client calls whatever has a recorded shape and can be called without outside help, at a gateway that has something to
//! tell; every answer and every event that reaches it is held to its shape. `tests/clients` does the same with what the real
//! clients call.

mod newest;
mod shape;
mod walk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use jsonschema::Validator;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, Server, TOKEN, connect_params};
use crate::hub::OWN_EVENTS;
use crate::methods::find;

const NO_HEARTBEAT: &str = "no agent is woken, so the gateway has no such event";
const NO_SCHEDULER: &str = "there is no scheduler, so the gateway has no such method or event";

/// Shapes that nothing is held to here, and why. Whoever adds such a method or event has to take it out.
const NOT_REACHED: &[(&str, &str)] = &[
    ("result cron.add", NO_SCHEDULER),
    ("result cron.remove", NO_SCHEDULER),
    ("result cron.run", NO_SCHEDULER),
    ("result cron.update", NO_SCHEDULER),
    ("event cron", NO_SCHEDULER),
    ("event heartbeat", NO_HEARTBEAT),
];

#[derive(Deserialize)]
struct Facts {
    results: BTreeMap<String, String>,
    events: BTreeMap<String, String>,
    besides: BTreeMap<String, Vec<String>>,
}

/// The recorded shapes, and what was held to them.
struct Recorded {
    shapes: BTreeMap<String, Validator>,
    besides: BTreeMap<String, Vec<String>>,
    held: Mutex<BTreeSet<String>>,
    problems: Mutex<BTreeMap<String, String>>,
}

impl Recorded {
    fn read(text: &str) -> Self {
        let facts: Facts = serde_json::from_str(text).unwrap();
        let named = |kind: &str, shapes: BTreeMap<String, String>| -> Vec<(String, Validator)> {
            let compiled = |text: &str| jsonschema::validator_for(&shape::schema(text)).unwrap();
            shapes.into_iter().map(|(name, text)| (format!("{kind} {name}"), compiled(&text))).collect()
        };
        let mut shapes = named("result", facts.results);
        shapes.extend(named("event", facts.events));
        let shapes = shapes.into_iter().collect();
        Self { shapes, besides: facts.besides, held: Mutex::default(), problems: Mutex::default() }
    }

    fn hold_result(&self, method: &str, payload: &Value) {
        let mut payload = payload.clone();
        for name in self.besides.get(method).into_iter().flatten() {
            payload.as_object_mut().unwrap().shift_remove(name);
        }
        self.hold(format!("result {method}"), &payload);
    }

    fn hold(&self, name: String, payload: &Value) {
        let Some(shape) = self.shapes.get(&name) else { return };
        let wrong: Vec<String> =
            shape.iter_errors(payload).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if !wrong.is_empty() {
            self.problems
                .lock()
                .unwrap()
                .entry(name.clone())
                .or_insert(format!("{}\n  in {payload}", wrong.join("\n  ")));
        }
        self.held.lock().unwrap().insert(name);
    }
}

/// A client of version 3 that holds all it hears to the recorded shapes.
struct Old<'a> {
    client: Client,
    recorded: &'a Recorded,
    events: VecDeque<Value>,
}

impl<'a> Old<'a> {
    fn over(client: Client, recorded: &'a Recorded) -> Self {
        recorded.hold("event connect.challenge".into(), &client.challenge["payload"]);
        Self { client, recorded, events: VecDeque::new() }
    }

    async fn connect(server: &Server, recorded: &'a Recorded) -> Self {
        let mut old = Self::over(server.open().await, recorded);
        let mut params = connect_params(3, 3);
        params["scopes"] = json!(["operator.admin"]);
        params["auth"] = json!({"token": TOKEN});
        old.ok("connect", params).await;
        old
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.client.next_id += 1;
        let id = json!(format!("r{}", self.client.next_id));
        self.client.send(json!({"type": "req", "id": id, "method": method, "params": params})).await;
        id
    }

    /// The payload of the answer to what was asked.
    async fn answer(&mut self, method: &str, id: &Value) -> Value {
        loop {
            let frame = self.client.any().await;
            if frame["type"] == "event" {
                self.heard(frame);
                continue;
            }
            assert_eq!((&frame["id"], &frame["ok"]), (id, &json!(true)), "{method}: {frame}");
            self.recorded.hold_result(method, &frame["payload"]);
            return frame["payload"].clone();
        }
    }

    async fn ok(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params).await;
        self.answer(method, &id).await
    }

    fn heard(&mut self, event: Value) {
        self.recorded.hold(format!("event {}", event["event"].as_str().unwrap()), &event["payload"]);
        self.events.push_back(event);
    }

    /// The payload of the next event of that name.
    async fn event(&mut self, name: &str) -> Value {
        loop {
            if let Some(at) = self.events.iter().position(|event| event["event"] == name) {
                return self.events.remove(at).unwrap()["payload"].clone();
            }
            let frame = self.client.any().await;
            assert_eq!(frame["type"], "event", "{frame}");
            self.heard(frame);
        }
    }
}

#[tokio::test]
async fn all_that_version_3_hears_has_the_shape_that_was_recorded() {
    let recorded = Recorded::read(include_str!("../../../../../tests/data/shapes-v3.json"));
    walk::sessions(&recorded).await;
    walk::runs(&recorded).await;
    walk::agents_and_machine(&recorded).await;
    walk::devices(&recorded).await;
    walk::nodes(&recorded).await;
    walk::pairing_of_nodes(&recorded).await;
    walk::approvals(&recorded).await;
    walk::settings(&recorded).await;
    walk::the_end(&recorded).await;

    let problems = recorded.problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{problems:#?}");
    let held = recorded.held.into_inner().unwrap();
    let listed: BTreeSet<String> = NOT_REACHED.iter().map(|(name, _)| (*name).to_owned()).collect();
    let forgotten: Vec<&String> =
        recorded.shapes.keys().filter(|name| held.contains(*name) == listed.contains(*name)).collect();
    assert!(forgotten.is_empty(), "neither held to its shape nor listed, or both: {forgotten:?}");
    assert!(listed.iter().all(|name| recorded.shapes.contains_key(name)), "listed, and there is no such shape");
}

#[test]
fn what_is_not_reached_is_what_the_gateway_does_not_have() {
    for (name, _) in NOT_REACHED {
        let has = match name.split_once(' ').unwrap() {
            ("result", method) => find(method).is_some(),
            (_, event) => OWN_EVENTS.contains(&event),
        };
        assert!(!has, "{name} can be reached: hold it to its shape");
    }
}
