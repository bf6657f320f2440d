//! What a component says of itself, against its manifest, against other plugins, and against what it then does.

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use leanclaw_types::plugin::{PluginInfo, PluginState};
use serde_json::{Value, json};

use super::support::{Bench, assert_failed, context, manifest, with};

fn tools(list: Value) -> Guest {
    Guest::new("export skill;").answer("skill.tools", json!({ "ok": list }))
}

fn tool(name: &str) -> Value {
    json!({"name": name, "description": "d", "input-schema": "{}"})
}

fn methods(list: Value) -> Guest {
    Guest::new("export method;").answer("method.methods", json!({ "ok": list }))
}

fn method(name: &str, scope: &str) -> Value {
    json!({"name": name, "description": "d", "scope": scope, "params-schema": "{}", "result-schema": "{}"})
}

async fn refused(bench: &Bench, manifest: Value, guest: &Guest) -> PluginInfo {
    let info = bench.try_install(&manifest, &guest.build().unwrap()).await;
    assert_eq!(info.state, PluginState::Faulted, "{}", info.id);
    assert!(info.reason.contains("hint:"), "{}: {}", info.id, info.reason);
    info
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_has_to_be_what_its_manifest_says() {
    let bench = Bench::with_witness().await;
    let hook = Guest::new("export hook;").answer("hook.events", json!(["before-send"]));
    let channel = Guest::new("export channel;").answer("channel.describe", json!({"id": "parley"}));
    let contracts = |names: Value| json!({"contracts": {"tools": names}});
    let cases = [
        ("toolbox", tools(json!([tool("a")])), contracts(json!(["b"])), contracts(json!(["a"])), "contracts.tools"),
        ("channel", channel, json!({"channels": ["mail"]}), json!({"channels": ["mail", "parley"]}), "`channels`"),
        ("hook", hook, json!({}), json!({"permissions": {"hooks": ["before-send"]}}), "permissions.hooks"),
    ];
    for (id, guest, wrong, right, part) in cases {
        let info = refused(&bench, with(manifest(id), wrong), &guest).await;
        assert!(info.reason.contains(part), "{}", info.reason);
        bench.drop_in(&with(with(manifest(id), json!({"version": "2.0.0"})), right), &guest.build().unwrap());
        bench.until(id, |info| info.version == "2.0.0").await;
        let info = bench.grant(id).await;
        assert_eq!(info.state, PluginState::Ready, "{}", info.reason);
    }
    bench.close().await;
}

/// What a guest says of its own failure does not have it loaded again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_fails_to_describe_itself_is_not_tried_again() {
    let bench = Bench::with_witness().await;
    let failure = json!({"err": {"code": "unavailable", "message": "not now", "retryable": true}});
    let guest = Guest::new("export method;").answer("method.methods", failure);
    let info = refused(&bench, manifest("busy"), &guest).await;
    assert!(info.reason.contains("not now") && !info.reason.contains("tried again"), "{}", info.reason);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_that_cannot_be_used_is_refused() {
    let bench = Bench::with_witness().await;
    let with_schema = |schema: &str| tools(json!([{"name": "t", "input-schema": schema}]));
    let many: Vec<Value> = (0..300).map(|number| tool(&format!("t{number}"))).collect();
    let cases = [
        ("many", tools(json!(many)), "more than 256"),
        ("twice", tools(json!([tool("a"), tool("a")])), "two tools"),
        ("spaced", tools(json!([tool("a b")])), "not a tool name"),
        ("escape", tools(json!([tool("\u{1b}[2J")])), "\\u{1b}[2J"),
        ("long", tools(json!([{"name": "t", "description": "x".repeat(20_000), "input-schema": "{}"}])), "16384"),
        ("no-json", with_schema("{"), "JSON Schema"),
        ("no-schema", with_schema("[1]"), "JSON Schema"),
        ("remote", with_schema(r#"{"$ref":"http://127.0.0.1:9/s.json"}"#), "JSON Schema"),
        ("deep", with_schema(&format!("{}{}", "[".repeat(50_000), "]".repeat(50_000))), "JSON Schema"),
        ("dots", methods(json!([method("", "operator.read")])), "not a method name"),
        ("scope", methods(json!([method("m", "root\u{1b}[2J")])), "not an operator scope"),
    ];
    for (id, guest, part) in cases {
        let info = refused(&bench, manifest(id), &guest).await;
        assert!(info.reason.contains(part), "{id}: {}", info.reason);
        assert!(!info.reason.contains('\u{1b}') && info.reason.len() < 3000, "{id}: {:?}", info.reason);
        assert!(info.tools.is_empty() && info.methods.is_empty());
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_name_belongs_to_the_first_plugin_that_has_it() {
    let bench = Bench::with_witness().await;
    bench.install(&manifest("b"), &tools(json!([tool("shared"), tool("own-b")])).build().unwrap()).await;
    bench.install(&manifest("c"), &tools(json!([tool("own-c"), tool("shared")])).build().unwrap()).await;
    let owner = || bench.plugins.tools().into_iter().find(|tool| tool.name == "shared").unwrap().plugin.to_string();
    let names: Vec<_> = bench.plugins.tools().into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["own-b", "own-c", "shared"]);
    assert_eq!(owner(), "b");
    let reason = bench.until("c", |info| !info.reason.is_empty()).await.reason;
    assert!(reason.contains("`shared`") && reason.contains("`b`"), "{reason}");
    std::fs::remove_dir_all(bench.folder.path().join("b")).unwrap();
    bench.until("c", |info| info.reason.is_empty()).await;
    assert_eq!(owner(), "c");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_stands_under_its_plugins_own_name() {
    let bench = Bench::with_witness().await;
    let guest = methods(json!([method("witness.run", "operator.admin"), method("plugins.list", "operator.read")]))
        .answer("method.invoke", json!({"ok": "1"}));
    bench.install(&manifest("p"), &guest.build().unwrap()).await;
    let names: Vec<_> = bench.plugins.methods().iter().map(|method| method.wire_name()).collect();
    assert_eq!(names, ["p.plugins.list", "p.witness.run", "witness.run"]);
    let scope = |name| bench.plugins.method(name).map(|method| method.scope().to_owned());
    assert_eq!(scope("p.witness.run").as_deref(), Some("operator.admin"));
    assert_eq!(scope("witness.run").as_deref(), Some("operator.read"));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_to_the_version_whose_scope_was_looked_at() {
    let bench = Bench::with_witness().await;
    let answering = |scope: &str, answer: &str| {
        methods(json!([method("run", scope)])).answer("method.invoke", json!({"ok": answer})).build().unwrap()
    };
    bench.install(&manifest("p"), &answering("operator.read", "1")).await;
    let before = bench.plugins.method("p.run").unwrap();
    bench.replace(&manifest("p"), "2.0.0", &answering("operator.admin", "2")).await;
    let after = bench.plugins.method("p.run").unwrap();
    assert_eq!((before.scope(), after.scope()), ("operator.read", "operator.admin"));
    assert_eq!(before.call("{}", context()).await.unwrap(), "1");
    assert_eq!(after.call("{}", context()).await.unwrap(), "2");
    std::fs::remove_dir_all(bench.folder.path().join("p")).unwrap();
    bench.wait("it stays", || bench.plugins.method("p.run").is_none().then_some(())).await;
    let failure = after.call("{}", context()).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("unavailable", "The plugin `p` was unloaded."));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_component_under_two_ids_is_two_plugins() {
    let bench = Bench::with_witness().await;
    let wasm = guests::echo().unwrap();
    bench.install(&manifest("other"), &wasm).await;
    assert_eq!(bench.run("other", "1").await.unwrap(), "1");
    let owners: Vec<_> = bench.plugins.methods().iter().map(|method| method.plugin.to_string()).collect();
    assert_eq!(owners, ["other", "witness"]);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_says_is_checked_against_its_own_schemas() {
    let bench = Bench::with_witness().await;
    let number = r#"{"type":"integer"}"#;
    let strict = json!([{"name": "run", "scope": "operator.read", "params-schema": number, "result-schema": number}]);
    let answers = |text: &str| methods(strict.clone()).answer("method.invoke", json!({ "ok": text })).build().unwrap();
    bench.install(&manifest("good"), &answers("7")).await;
    assert_eq!(bench.run("good", "1").await.unwrap(), "7");
    for params in ["\"x\"", "{", "", "1 2"] {
        let failure = bench.run("good", params).await.unwrap_err();
        assert_eq!(failure.code, "invalid-input", "{params}: {failure:?}");
    }
    let deep = "[".repeat(100_000);
    for (id, answer) in [("text", "\"x\""), ("broken", "{"), ("empty", ""), ("more", "1,\"ok\":2"), ("deep", &deep)] {
        bench.install(&manifest(id), &answers(answer)).await;
        let failure = bench.run(id, "1").await.unwrap_err();
        assert_failed(&failure, "internal");
        assert!(failure.message.contains("its own schema") && failure.message.len() < 1000, "{failure}");
    }
    let output = |structured: &str, is_error: bool| {
        let kind = json!([{"name": "t", "input-schema": "{}", "output-schema": number}]);
        tools(kind)
            .answer("skill.invoke", json!({"ok": {"structured": structured, "is-error": is_error}}))
            .build()
            .unwrap()
    };
    let call = async || bench.plugins.invoke_tool("t", "{}", context()).await;
    bench.install(&manifest("tool"), &output("\"x\"", false)).await;
    assert_failed(&call().await.unwrap_err(), "internal");
    bench.drop_in(&with(manifest("tool"), json!({"version": "2.0.0"})), &output("\"why\"", true));
    bench.until("tool", |info| info.version == "2.0.0" && info.state == PluginState::Ready).await;
    let said = call().await.unwrap();
    assert!(said.is_error && said.structured == Some(json!("why")), "a tool that failed need not fit: {said:?}");
    assert_failed(&bench.plugins.invoke_tool("none", "{}", context()).await.unwrap_err(), "not-found");
    bench.close().await;
}
