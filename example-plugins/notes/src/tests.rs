use leanclaw_plugin_sdk::failure::code;
use leanclaw_plugin_sdk::testing::TestHost;
use serde_json::{Value, json};

use super::*;

fn host() -> TestHost {
    TestHost::with_manifest(include_str!("../leanclaw.plugin.json")).unwrap()
}

fn call(host: &TestHost, method: &str, params: Value) -> Result<Value, Failure> {
    host.call_method::<Notes>(method, params)
}

fn texts(page: &Value) -> Vec<&str> {
    page["notes"].as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap()).collect()
}

#[test]
fn a_note_is_added_listed_and_removed_and_clients_hear_of_it() {
    let host = host();
    let note = call(&host, "add", json!({"text": "  Buy milk.\n"})).unwrap();
    assert_eq!(note, json!({"id": 1, "text": "Buy milk.", "createdAtMs": host.now_ms()}));
    assert_eq!(call(&host, "list", json!({})).unwrap(), json!({"notes": [note]}));
    assert_eq!(call(&host, "remove", json!({"id": 1})).unwrap(), json!({"removed": true}));
    assert_eq!(call(&host, "remove", json!({"id": 1})).unwrap(), json!({"removed": false}));
    assert_eq!(call(&host, "list", json!({})).unwrap(), json!({"notes": []}));
    let events: Vec<_> = host.events().into_iter().map(|event| (event.name, event.payload)).collect();
    assert_eq!(
        events,
        [
            ("changed".to_owned(), json!({"change": "added", "id": 1})),
            ("changed".to_owned(), json!({"change": "removed", "id": 1})),
        ]
    );
}

#[test]
fn pages_show_every_note_once_and_in_order() {
    let host = host();
    for number in 1..=12 {
        call(&host, "add", json!({"text": format!("note {number}")})).unwrap();
    }
    let first = call(&host, "list", json!({"limit": 5})).unwrap();
    assert_eq!(texts(&first), ["note 1", "note 2", "note 3", "note 4", "note 5"]);
    // The note at the border goes away between two pages.
    call(&host, "remove", json!({"id": 5})).unwrap();
    let second = call(&host, "list", json!({"limit": 5, "after": first["next"]})).unwrap();
    assert_eq!(texts(&second), ["note 6", "note 7", "note 8", "note 9", "note 10"]);
    let third = call(&host, "list", json!({"limit": 5, "after": second["next"]})).unwrap();
    assert_eq!(texts(&third), ["note 11", "note 12"]);
    assert_eq!(third.get("next"), None);
    // A last page that is full knows that it is the last.
    assert_eq!(call(&host, "list", json!({"limit": 2, "after": 10})).unwrap().get("next"), None);
}

#[test]
fn a_search_finds_all_words_in_any_case_and_goes_on_where_it_stopped() {
    let host = host();
    for text in ["Milk and bread", "BREAD", "bread without MILK", "milk"] {
        call(&host, "add", json!({"text": text})).unwrap();
    }
    let found = call(&host, "search", json!({"query": "Bread milk"})).unwrap();
    assert_eq!(texts(&found), ["Milk and bread", "bread without MILK"]);
    let first = call(&host, "search", json!({"query": "milk", "limit": 1})).unwrap();
    let second = call(&host, "search", json!({"query": "milk", "limit": 1, "after": first["next"]})).unwrap();
    assert_eq!((texts(&first), texts(&second)), (vec!["Milk and bread"], vec!["bread without MILK"]));
}

#[test]
fn a_search_through_many_notes_is_cut_and_says_where_to_go_on() {
    let host = host();
    for number in 0..=MAX_SEARCHED {
        let text = if number == MAX_SEARCHED { "needle" } else { "hay" };
        call(&host, "add", json!({"text": text})).unwrap();
    }
    let first = call(&host, "search", json!({"query": "needle"})).unwrap();
    assert_eq!((texts(&first).len(), &first["next"]), (0, &json!(MAX_SEARCHED)));
    let second = call(&host, "search", json!({"query": "needle", "after": first["next"]})).unwrap();
    assert_eq!(texts(&second), ["needle"]);
}

#[test]
fn two_notes_added_at_once_get_two_numbers() {
    let host = host();
    host.write_after_next_read(COUNTER, b"7");
    assert_eq!(call(&host, "add", json!({"text": "mine"})).unwrap()["id"], 8);
}

#[test]
fn bad_input_is_refused_and_nothing_is_stored() {
    let host = host();
    for (method, params, expected) in [
        ("add", json!({"text": " "}), code::INVALID_INPUT),
        ("add", json!({"text": 5}), code::INVALID_INPUT),
        ("add", json!({"text": "x", "tag": "y"}), code::INVALID_INPUT),
        ("add", json!({"text": "\u{e9}".repeat(MAX_TEXT_CHARACTERS + 1)}), code::TOO_LARGE),
        ("list", json!({"limit": 0}), code::INVALID_INPUT),
        ("list", json!({"limit": MAX_PAGE + 1}), code::INVALID_INPUT),
        ("search", json!({"query": " "}), code::INVALID_INPUT),
        ("delete", json!({}), code::NOT_FOUND),
    ] {
        let failure = call(&host, method, params.clone()).unwrap_err();
        assert_eq!(failure.code, expected, "{method} {params}: {failure}");
    }
    assert_eq!(call(&host, "list", json!({})).unwrap(), json!({"notes": []}));
    assert!(call(&host, "add", json!({"text": "\u{e9}".repeat(MAX_TEXT_CHARACTERS)})).is_ok());
}

#[test]
fn a_full_store_and_a_cancelled_search_say_so() {
    let host = host();
    host.set_kv_quota_bytes(100);
    let failure = call(&host, "add", json!({"text": "x".repeat(200)})).unwrap_err();
    assert_eq!(failure.code, code::BUDGET_EXHAUSTED);
    host.set_cancelled(true);
    assert_eq!(call(&host, "search", json!({"query": "x"})).unwrap_err().code, code::CANCELLED);
}

#[test]
fn a_client_needs_to_write_only_to_change_something() {
    let scopes: Vec<_> = Notes::methods().specs().into_iter().map(|spec| (spec.name, spec.scope)).collect();
    assert_eq!(
        scopes,
        [
            ("add".to_owned(), Scope::Write),
            ("list".to_owned(), Scope::Read),
            ("search".to_owned(), Scope::Read),
            ("remove".to_owned(), Scope::Write),
        ]
    );
    let schema = &Notes::methods().specs()[0].params_schema;
    assert_eq!(schema["properties"]["text"]["maxLength"], json!(MAX_TEXT_CHARACTERS));
    assert_eq!(schema["additionalProperties"], json!(false));
}
