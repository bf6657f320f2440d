use std::cell::Cell;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::failure::code;
use crate::kv::{self, Expect};
use crate::message::{Part, Person, Place};
use crate::{MethodTable, NoParams, Scope, Structured, Tool, ToolTable, credentials, events, http, inbox, skill};

const MANIFEST: &str = r#"{
    "id": "x", "main": "x.wasm", "permissions": {
        "http": ["api.example.com", "*.example.org", "https://example.net:8443"],
        "privateHttp": ["http://127.0.0.1:9000"],
        "kv": {"quotaBytes": 100}, "events": ["done"], "secrets": [{"name": "key", "hmac": true}]
    }
}"#;

#[derive(Default)]
struct Example {
    calls: Cell<u32>,
}

crate::export!(Example: methods, skill);

#[derive(Deserialize, JsonSchema)]
struct Input {
    words: Vec<String>,
}

impl Methods for Example {
    fn methods() -> MethodTable<Self> {
        MethodTable::new()
            .method("join", "Joins words.", Scope::Read, |_: &Self, context, input: Input| {
                context.progress(1, Some(2), Some("half"));
                context.emit_text("a")?;
                context.emit_text("b")?;
                Ok(input.words.join(" "))
            })
            .method("calls", "Counts.", Scope::Named("operator.pairing"), |example: &Self, _, _: NoParams| {
                example.calls.set(example.calls.get() + 1);
                Ok(example.calls.get())
            })
    }
}

impl Skill for Example {
    fn tools() -> ToolTable<Self> {
        ToolTable::new()
            .tool(
                Tool::new("length", "Counts words.", |_: &Self, _, input: Input| {
                    let file = Blob::new("text/plain", input.words.concat());
                    Ok(Structured::new(input.words.len()).text("counted").file(file))
                })
                .effects([skill::effect::READS])
                .idempotent(),
            )
            .tool(Tool::new("shout", "Shouts.", |_: &Self, _, input: Input| Ok(input.words.concat().to_uppercase())))
            .tool(Tool::new("refuse", "Refuses.", |_: &Self, _, _: NoParams| Ok(Output::error("I will not."))))
    }
}

#[test]
fn methods_are_called_by_name_with_their_types() {
    let host = TestHost::new();
    assert_eq!(host.call_method::<Example>("join", json!({"words": ["a", "b"]})).unwrap(), json!("a b"));
    assert_eq!(host.emitted_text(), "ab");
    assert_eq!(host.progress(), [Progress { done: 1, total: Some(2), note: Some("half".into()) }]);
    let failure = host.call_method::<Example>("join", json!({"words": ["a", 5]})).unwrap_err();
    assert_eq!((failure.code.as_str(), failure.extra), (code::INVALID_INPUT, Some(json!({"path": "words[1]"}))));
    assert_eq!(host.call_method::<Example>("nope", json!({})).unwrap_err().code, code::NOT_FOUND);
    // Each call has a plugin of its own.
    assert_eq!(host.call_method::<Example>("calls", json!({})).unwrap(), 1);
    assert_eq!(host.call_method::<Example>("calls", json!({})).unwrap(), 1);
    assert!(host.call_method::<Example>("calls", json!({"x": 1})).is_err());
    let specs = Example::methods().specs();
    assert_eq!(specs[0].params_schema["properties"]["words"]["items"]["type"], "string");
    assert_eq!((specs[1].scope.as_str(), &specs[1].result_schema["type"]), ("operator.pairing", &json!("integer")));
}

#[test]
fn tools_give_values_text_and_files() {
    let host = TestHost::new();
    let output = host.call_tool::<Example>("length", json!({"words": ["a", "b"]})).unwrap();
    assert_eq!((output.structured_part(), output.text_part()), (Some(&json!(2)), Some("counted")));
    assert_eq!((output.files()[0].media_type(), output.files()[0].size()), ("text/plain", Some(2)));
    let output = host.call_tool::<Example>("shout", json!({"words": ["a"]})).unwrap();
    assert_eq!((output.structured_part(), output.text_part(), output.is_error()), (None, Some("A"), false));
    assert!(host.call_tool::<Example>("refuse", json!({})).unwrap().is_error());
    let specs = Example::tools().specs();
    assert_eq!((specs[0].effects.as_slice(), specs[0].idempotent), (["reads".to_owned()].as_slice(), true));
    assert_eq!(specs[0].output_schema.as_ref().unwrap()["type"], "integer");
    assert_eq!((specs[1].output_schema.as_ref(), specs[1].idempotent), (None, false));
}

#[test]
fn kv_keeps_the_rules_of_the_real_store() {
    let host = TestHost::new();
    let first = kv::put("a", b"1").unwrap();
    assert_eq!(kv::put_if("a", b"2", Expect::Absent, None).unwrap_err().code, code::CONFLICT);
    assert_eq!(kv::put_if("a", b"2", Expect::Revision(first + 1), None).unwrap_err().code, code::CONFLICT);
    let second = kv::put_if("a", b"2", Expect::Revision(first), None).unwrap();
    assert!(kv::delete("a").unwrap() && !kv::delete("a").unwrap());
    // A revision never comes back, so a stale writer cannot hit a new entry by chance.
    assert!(kv::put_if("a", b"3", Expect::Absent, Some(10)).unwrap() > second);
    assert!(!kv::put_new("a", b"4", None).unwrap());
    host.advance(Duration::from_millis(9_999));
    assert_eq!(kv::get("a").unwrap().unwrap().value, b"3");
    host.advance(Duration::from_millis(1));
    assert_eq!(kv::get("a").unwrap(), None);
    assert!(kv::put_new("a", b"4", None).unwrap());
    for (key, value, expected) in
        [("k".repeat(513), 1, code::TOO_LARGE), ("k".into(), 1024 * 1024 + 1, code::TOO_LARGE)]
    {
        assert_eq!(kv::put(&key, &vec![0; value]).unwrap_err().code, expected);
    }
    host.set_kv_quota_bytes(10);
    assert_eq!(kv::put("b", &[0; 8]).unwrap_err().code, code::BUDGET_EXHAUSTED);
    kv::put("b", &[0; 7]).unwrap();
    host.set_kv_quota_bytes(0);
    kv::put("b", &[0; 7]).unwrap();
}

#[test]
fn keys_come_in_order_and_all_of_them() {
    let _host = TestHost::new();
    for number in (0..600).rev() {
        kv::put(&format!("n/{number:03}"), b"").unwrap();
    }
    kv::put("m", b"").unwrap();
    kv::put("o", b"").unwrap();
    assert_eq!(kv::keys("n/", Some("n/003"), 2).unwrap(), ["n/004", "n/005"]);
    let all: Vec<String> = kv::all_keys("n/").collect::<Result<_, _>>().unwrap();
    assert_eq!((all.len(), all[0].as_str(), all[599].as_str()), (600, "n/000", "n/599"));
}

#[test]
fn an_update_loses_no_write_of_another() {
    let host = TestHost::new();
    kv::put_json("n", &1).unwrap();
    host.write_after_next_read("n", b"10");
    let seen = std::cell::RefCell::new(Vec::new());
    let written = kv::update("n", |old: Option<u32>| {
        seen.borrow_mut().push(old);
        Ok(old.unwrap_or(0) + 1)
    });
    assert_eq!((written.unwrap(), seen.into_inner()), (11, vec![Some(1), Some(10)]));
    assert_eq!(kv::get_json::<u32>("n").unwrap(), Some(11));
    assert!(kv::get_json::<String>("n").unwrap_err().message.contains("`n`"));
}

#[test]
fn a_manifest_bounds_what_the_plugin_may_do() {
    let host = TestHost::with_manifest(MANIFEST).unwrap();
    host.set_secret("key", "value");
    host.set_secret("other", "value");
    assert_eq!(kv::put("k", &[0; 100]).unwrap_err().code, code::BUDGET_EXHAUSTED);
    events::emit("done", &1).unwrap();
    assert_eq!(host.events(), [EmittedEvent { name: "done".into(), payload: json!(1) }]);
    assert!(credentials::hmac_sha256("key", b"").is_ok());
    for denied in [
        events::emit("other", &1).unwrap_err(),
        credentials::hmac_sha256("other", b"").unwrap_err(),
        inbox::submit(message("1")).unwrap_err(),
    ] {
        assert_eq!(denied.code, code::DENIED, "{denied}");
    }
    for (url, allowed) in [
        ("https://api.example.com/x", true),
        ("https://API.example.com:443", true),
        ("http://api.example.com/x", false),
        ("https://api.example.com.evil.net/x", false),
        ("https://a.b.example.org/", true),
        ("https://example.org/", false),
        ("https://example.net:8443/", true),
        ("https://example.net/", false),
        ("http://127.0.0.1:9000/x?y", true),
        ("http://127.0.0.1:9001/", false),
    ] {
        let failure = http::Request::get(url).send().unwrap_err();
        assert_eq!(failure.code == code::UNAVAILABLE, allowed, "{url}: {failure}");
        assert_eq!(failure.code == code::DENIED, !allowed, "{url}: {failure}");
    }
    let bare = TestHost::with_manifest(r#"{"id": "x"}"#).unwrap();
    assert_eq!(kv::get("k").unwrap_err().code, code::DENIED);
    drop(bare);
    assert!(TestHost::with_manifest("{").is_err());
}

#[test]
fn http_stubs_answer_in_turn_and_requests_are_seen() {
    let host = TestHost::new();
    let url = "https://example.com/";
    host.stub_http("POST", url, Stub::status(503));
    host.stub_http("POST", url, Stub::json(&json!({"n": 1})).header("x-a", "b"));
    let send = || http::Request::post(url).header("X-Key", "{{secret:key}}").json(&json!([1])).unwrap().send();
    assert_eq!(send().unwrap().status, 503);
    for _ in 0..2 {
        let response = send().unwrap();
        assert_eq!(response.headers.get("x-a"), Some("b"));
        assert_eq!(response.json::<serde_json::Value>(100).unwrap(), json!({"n": 1}));
    }
    let failure = http::Request::get(url).timeout_ms(5).send_over_wasi().unwrap_err();
    assert!(failure.message.contains("GET https://example.com/"), "{failure}");
    let requests = host.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(
        (requests[0].body.as_slice(), requests[0].headers.get("x-key")),
        (b"[1]".as_slice(), Some("{{secret:key}}"))
    );
    assert_eq!(requests[3].timeout_ms, Some(5));
}

fn message(id: &str) -> Inbound {
    Inbound {
        id: id.into(),
        sender: Person::default(),
        place: Place::direct("p"),
        parts: vec![Part::text("t")],
        reply_to: None,
        sent_at_ms: 0,
        extra: None,
    }
}

#[test]
fn the_inbox_takes_a_message_once() {
    let host = TestHost::new();
    assert_eq!(inbox::submit(message("1")).unwrap(), inbox::Submission::Accepted);
    assert_eq!(inbox::submit(message("1")).unwrap(), inbox::Submission::Duplicate);
    host.set_inbox_answer(Ok("something-new"));
    assert_eq!(inbox::submit(message("2")).unwrap().as_str(), "something-new");
    assert_eq!(host.take_inbox().len(), 1);
    assert!(inbox::submit(message("")).is_err());
}

#[test]
fn the_log_has_levels_and_fields() {
    let host = TestHost::new();
    log::warn!(target: "t", count = 3, name = "n"; "hello {}", 1);
    let fields =
        [("target", "t"), ("count", "3"), ("name", "n")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(host.log(), [LogLine { level: "warn".into(), message: "hello 1".into(), fields: fields.to_vec() }]);
}

#[test]
fn settings_have_types_and_name_their_mistakes() {
    #[derive(Debug, Deserialize)]
    struct Settings {
        #[serde(default)]
        size: u8,
    }
    let host = TestHost::new();
    assert_eq!(crate::settings::<Settings>().unwrap().size, 0);
    host.set_settings(json!({"size": 300}));
    let failure = crate::settings::<Settings>().unwrap_err();
    assert_eq!(failure.code, code::UNAVAILABLE);
    assert!(failure.message.contains("`size`") && failure.message.contains("plugins.entries"), "{failure}");
}

#[test]
fn hmac_is_the_real_one() {
    let host = TestHost::new();
    host.set_secret("key", "key");
    // RFC-style example known from many tables: key "key", this sentence.
    let tag = credentials::hmac_sha256("key", b"The quick brown fox jumps over the lazy dog").unwrap();
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
    assert!(credentials::verify_hmac_sha256("key", b"x", &credentials::hmac_sha256("key", b"x").unwrap()).unwrap());
    assert!(!credentials::verify_hmac_sha256("key", b"x", &tag).unwrap());
    assert!(credentials::exists("key") && !credentials::exists("other"));
}

#[test]
fn without_a_host_the_plugin_is_told_so() {
    drop(TestHost::new());
    assert!(kv::get("a").unwrap_err().message.contains("TestHost"));
    let first = TestHost::new();
    let second = TestHost::new();
    drop(first);
    kv::put("a", b"1").unwrap();
    drop(second);
    assert!(kv::get("a").is_err());
}

#[test]
fn a_call_knows_its_caller_and_its_time() {
    let host = TestHost::new();
    host.set_caller(Caller { scopes: vec!["operator.write".into()], ..Caller::default() });
    host.set_remaining(Duration::from_secs(2));
    host.set_cancelled(true);
    host.call(|context| {
        assert_eq!((context.id().as_str(), context.remaining()), ("call-1", Duration::from_secs(2)));
        assert!(context.caller().holds("operator.read") && !context.caller().holds("operator.admin"));
        assert_eq!(context.check().unwrap_err().code, code::CANCELLED);
    });
    host.call(|context| assert_eq!(context.id(), "call-2"));
}
